/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * QUIC: which backend issued the connection id of a packet (draft-ietf-quic-load-balancers,
 * section 4, plaintext server ids). A client that changes its address or port keeps the id, so its
 * connection keeps the backend, which no hash of addresses can do.
 *
 *     first octet of the id: rotation (3 bits) | whatever (5 bits); then the server id; then a
 * nonce
 *
 * Short headers carry an id that the server chose. Long ones do from the Handshake packets on; in
 * Initial and 0-RTT packets the id is the client's invention, and the flow chooses (RFC 9000,
 * section 7.2). Versions other than 1 and 2 are not read, because their packet types are unknown.
 */

#include "bpf/maps.h"
#include "bpf/parse.h"

#define QUIC_LONG_HEADER   0x80
#define QUIC_VERSION_1	   1	      /* RFC 9000 */
#define QUIC_VERSION_2	   0x6b3343cf /* RFC 9369 */
#define QUIC_LONG_PREFIX   6	      /* first byte, version, length of the destination's id */
#define QUIC_ID_BYTES_MAX  20	      /* RFC 9000, section 17.2 */
#define QUIC_SERVER_ID_MAX 15

/* 2 in version 1 and 3 in version 2 (RFC 9369, section 3.2): Handshake, the one type of long
 * header whose destination id is the server's for sure, and which leads to it. */
static __always_inline int is_handshake(__u8 first, __be32 version_be)
{
	__u8 type = first >> 4 & 3;

	if (version_be == bpf_htonl(QUIC_VERSION_1))
		return type == 2;
	return version_be == bpf_htonl(QUIC_VERSION_2) && type == 3;
}

/* Offset of the destination's connection id in a UDP payload; 0 where there is none to go by. */
static __always_inline __u32 quic_id_offset(const __u8 *payload, const void *end, __u8 id_bytes_min)
{
	__be32 version_be;

	if ((const void *)(payload + 1) > end)
		return 0;
	if (!(*payload & QUIC_LONG_HEADER))
		return 1;
	if ((const void *)(payload + QUIC_LONG_PREFIX) > end)
		return 0;
	__builtin_memcpy(&version_be, payload + 1, sizeof(version_be));
	if (!is_handshake(*payload, version_be) || payload[5] < id_bytes_min ||
	    payload[5] > QUIC_ID_BYTES_MAX)
		return 0;
	return QUIC_LONG_PREFIX;
}

/* The backend that the connection id names; 0 where it names none. */
__noinline __u32 weir_find_by_connection_id(struct xdp_md *ctx, const struct packet *pkt,
					    const struct weir_vip *vip)
{
	const __u8 *payload, *id;
	struct weir_quic_key key = {};
	const __u32 *backend_id;
	const void *end;
	__u32 vip_id, offset;
	void *ids;

	if (!pkt || !vip)
		return 0; /* they never are; only the verifier asks */
	vip_id = vip->id;
	payload = transport_header(ctx, pkt) + sizeof(struct udphdr);
	end = packet_end(ctx);
	if (pkt->fragment == FRAGMENT_LATER)
		return 0;
	offset = quic_id_offset(payload, end, 1 + vip->quic_id_bytes);
	if (!offset)
		return 0;
	id = payload + offset;
	if ((const void *)(id + 1) > end || *id >> 5 != vip->quic_rotation)
		return 0;
	for (int i = 0; i < QUIC_SERVER_ID_MAX; i++) { /* the longest that the draft allows */
		if (i >= vip->quic_id_bytes)
			break;
		if ((const void *)(id + i + 2) > end)
			return 0;
		key.server_id[i] = id[i + 1];
	}
	ids = bpf_map_lookup_elem(&weir_quic, &vip_id);
	if (!ids)
		return 0;
	backend_id = bpf_map_lookup_elem(ids, &key);
	return backend_id ? *backend_id : 0;
}
