/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Samples of packets for `weir monitor`. While nobody watches there is no ring, and a packet pays
 * for one look at an empty slot. The ring is bounded; an event that finds it full is lost, and
 * counted.
 */

#include "bpf/maps.h"
#include "bpf/parse.h"

static __always_inline int is_wanted(const struct weir_monitor_filter *filter,
				     const struct packet *pkt, __u32 verdict)
{
	const struct weir_address any = {};

	if (!filter->is_on || (filter->verdicts && !(filter->verdicts >> (verdict & 63) & 1)))
		return 0;
	if (filter->vip_id && filter->vip_id != pkt->vip_id)
		return 0;
	if (!same_address(&filter->source, &any) &&
	    !same_address(&filter->source, &pkt->flow.source))
		return 0;
	return filter->every < 2 || bpf_get_prandom_u32() % filter->every == 0;
}

/* The first bytes of the frame, 1 to 256. Linux 6.1 does not conclude from `bytes != 0` that there
 * is one, so it is told in a way that the compiler does not see through. */
static __always_inline long load_bytes(struct xdp_md *ctx, __u8 *to, __u32 bytes)
{
	__u32 last = bytes - 1;

	asm volatile("" : "+r"(last));
	return bpf_xdp_load_bytes(ctx, 0, to, (last & 0xff) + 1);
}

static __noinline void emit_event(struct xdp_md *ctx, const struct packet *pkt, __u32 verdict,
				  void *ring)
{
	__u32 key = 0, frame_bytes = bpf_xdp_get_buff_len(ctx);
	struct weir_monitor_filter *filter;
	struct weir_event *event;
	__u32 kept_bytes;

	filter = bpf_map_lookup_elem(&weir_monitor_filter, &key);
	if (!filter || !is_wanted(filter, pkt, verdict))
		return;
	event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&filter->lost, 1);
		return;
	}
	kept_bytes = filter->snap_bytes < frame_bytes ? filter->snap_bytes : frame_bytes;
	if (kept_bytes > sizeof(event->frame))
		kept_bytes = sizeof(event->frame);
	event->time_ns = bpf_ktime_get_ns();
	event->verdict = verdict;
	event->vip_id = pkt->vip_id;
	event->backend_id = pkt->backend_id;
	event->ifindex = ctx->ingress_ifindex;
	event->frame_bytes = frame_bytes;
	event->kept_bytes = kept_bytes;
	if (!kept_bytes || load_bytes(ctx, event->frame, kept_bytes))
		event->kept_bytes = 0;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void observe(struct xdp_md *ctx, const struct packet *pkt, __u32 verdict)
{
	__u32 key = 0;
	void *ring = bpf_map_lookup_elem(&weir_monitor, &key);

	if (ring)
		emit_event(ctx, pkt, verdict, ring);
}
