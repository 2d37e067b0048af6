"""QUIC connections that change their address keep their backend, because their connection ids name
it. Real UDP sockets; the packets are headers of RFC 9000 with random bytes behind."""

import socket
import struct

from pathcase import *

QUIC_PORT = 4433
ROTATION = 2
MODES = [("ipip", 4), ("ipip", 6), ("gue", 4), ("gue", 6)]
SERVER_IDS = {name: bytes([0x0A, 0x0B, index]) for index, name in enumerate(BACKENDS, 1)}
UNKNOWN_ID = b"\xee\xee\xee"
INITIAL, HANDSHAKE = 0, 2  # long packet types of version 1 (RFC 9000, section 17.2)
VERSIONS = [(1, INITIAL, HANDSHAKE), (0x6B3343CF, 1, 3)]  # RFC 9000, RFC 9369


def connection_id(server_id, rotation=ROTATION):
    """draft-ietf-quic-load-balancers, section 4: rotation and whatever, server id, nonce."""
    return bytes([rotation << 5 | os.urandom(1)[0] & 0x1F]) + server_id + os.urandom(6)


def short_header(identifier):
    return bytes([0x40 | os.urandom(1)[0] & 0x3F]) + identifier + os.urandom(40)


def long_header(version, kind, identifier):
    source = os.urandom(8)
    return (struct.pack("!BI", 0xC0 | kind << 4, version) + bytes([len(identifier)]) + identifier +
            bytes([len(source)]) + source + os.urandom(1100))


class Quic(PathCase):
    PORTS = (QUIC_PORT,)

    @classmethod
    def prepare(cls):
        cls.apply(cls.vips(BACKENDS))

    @staticmethod
    def vips(names):
        lines = ""
        for index, (mode, family) in enumerate(MODES):
            backends = "[" + ", ".join(
                f'{{name: {b}, address: "{weirlab.backend4(b) if family == 4 else weirlab.backend6(b)}", '
                f'serverID: "{SERVER_IDS[b].hex()}"}}' for b in names) + "]"
            words = f", quic: {{serverIDLength: 3, configRotation: {ROTATION}}}"
            lines += vip_line(f"quic-{mode}{family}", (vip4 if family == 4 else vip6)(60 + index),
                              backends, "UDP", QUIC_PORT, mode, words)
        return lines

    def every_mode(self, check):
        for index, (mode, family) in enumerate(MODES):
            address = (vip4 if family == 4 else vip6)(60 + index)
            clients = self.client4 if family == 4 else self.client6
            with self.subTest(mode=mode, family=family), self.assert_nothing_dropped():
                check(address, clients)

    def ask(self, address, packet, source=None):
        return self.ask_udp(address, QUIC_PORT, packet, source=source)

    def test_a_connection_that_moves_keeps_its_backend(self):
        def check(address, clients):
            for _ in range(12):
                # The client invents the first id; the server's name says whose it uses from then on.
                owner = self.ask(address, long_header(1, INITIAL, os.urandom(8)), clients[0])
                own = connection_id(SERVER_IDS[owner])
                for source in clients:  # a new port each time, too
                    self.assertEqual(self.ask(address, short_header(own), source), owner)
        self.every_mode(check)

    def test_every_server_id_leads_to_its_backend(self):
        def check(address, clients):
            for owner, server_id in SERVER_IDS.items():
                packets = [short_header(connection_id(server_id))]
                packets += [long_header(version, handshake, connection_id(server_id))
                            for version, _, handshake in VERSIONS]
                for packet in packets * 3:
                    for source in clients[:3]:
                        self.assertEqual(self.ask(address, packet, source), owner, packet[:20].hex())
        self.every_mode(check)

    def test_ids_that_the_client_has_invented_are_not_read(self):
        def check(address, _):
            misleading = connection_id(SERVER_IDS["b1"])
            for version, initial, _ in VERSIONS:
                counts = self.count_answers(self.ask, 40, address,
                                            long_header(version, initial, misleading))
                self.assertEqual(set(counts), set(BACKENDS), counts)
        self.every_mode(check)

    def test_what_names_no_backend_goes_by_its_addresses(self):
        def check(address, _):
            for identifier in (connection_id(UNKNOWN_ID), connection_id(SERVER_IDS["b1"], ROTATION + 1),
                               b""):
                connection = self.socket(address, socket.SOCK_DGRAM)
                counts = self.count_answers(self.ask_udp, 5, address, QUIC_PORT,
                                            short_header(identifier)[:48], connection)
                self.assertEqual(len(counts), 1, counts)
            counts = self.count_answers(self.ask, 40, address, short_header(connection_id(UNKNOWN_ID)))
            self.assertEqual(set(counts), set(BACKENDS), counts)
        self.every_mode(check)

    def test_a_moving_connection_outlives_changes_of_the_backends(self):
        self.addCleanup(self.apply, self.vips(BACKENDS))
        own = {name: connection_id(server_id) for name, server_id in SERVER_IDS.items()}
        for names in (BACKENDS[:3], BACKENDS[1:3], BACKENDS):
            self.apply(self.vips(names))

            def check(address, clients):
                for name in names:
                    for source in clients[:4]:
                        self.assertEqual(self.ask(address, short_header(own[name]), source), name)
            self.every_mode(check)


if __name__ == "__main__":
    main()
