"""Ten thousand certificates at one listener are served, and one that was changed is, by connections made from
then on. Prints how long that takes; the benchmark has targets for it (l7.certificates*)."""

import os
import socket
import ssl
import time

from labcase import *

COUNT = 10_000


class Certificates(LabCase):

    @classmethod
    def start_backends(cls):
        """Weir answers by itself."""

    @classmethod
    def prepare(cls):
        cls.made = cls.lab.directory / "certificates"
        cls.make(cls.made, COUNT, serial=1)
        cls.few, cls.many = (cls.lab.write_config(cls.configuration(count), f"{count}.yaml")
                             for count in (1, COUNT))

    @classmethod
    def make(cls, directory, count, serial):
        directory.mkdir()
        run(weirlab.BUILD / "tests" / "lab" / "weir_make_certificates", directory, count, serial)

    @classmethod
    def configuration(cls, count):
        refs = "".join(f"      - {{file: {cls.made}/{i}.pem}}\n" for i in range(count))
        return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
  l7: {{workers: 2, addresses: [{L7_4}/24, "{L7_6}/64"]}}
gateways:
- name: edge
  addresses: [{VIP_EDGE4}]
  listeners:
  - name: https
    port: 443
    protocol: HTTPS
    tls:
      certificateRefs:
{refs}httpRoutes:
- name: all
  parentRefs: [{{name: edge}}]
  rules: [{{respond: {{status: 200}}}}]
"""

    def connect(self, number):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.lab.inside("client"):
            plain = socket.create_connection((VIP_EDGE4, 443), timeout=1)
        return context.wrap_socket(plain, server_hostname=f"c{number}.example")

    def answered_with(self, connection, number):
        """The serial number of the certificate behind a request to its name."""
        connection.sendall(f"GET / HTTP/1.1\r\nHost: c{number}.example\r\n\r\n".encode())
        self.assertTrue(connection.recv(4096).startswith(b"HTTP/1.1 200 OK"))
        pem = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))
        done = run("openssl", "x509", "-noout", "-serial", input=pem)
        return int(done.stdout.strip().partition("=")[2], 16)

    def is_served(self, number, serial):
        try:
            with self.connect(number) as connection:
                return self.answered_with(connection, number) == serial
        except OSError:
            return False

    def processor_s(self):
        """What weir-l7 has used."""
        fields = (pathlib.Path("/proc") / str(self.lab.processes["weir-l7"].pid) / "stat").read_text()
        user, system = fields.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def start(self, config):
        """Until the last certificate's name is answered: seconds by the clock, and of the processor."""
        count = COUNT if config == self.many else 1
        self.lab.weir("apply", "-f", config)
        began = time.monotonic()
        self.lab.start_l7(config)
        wait_until("a first answer", lambda: self.is_served(count - 1, count), 30, step=0.01)
        return time.monotonic() - began, self.processor_s()

    def test_many_certificates_are_served_soon(self):
        few = self.start(self.few)
        self.lab.stop("weir-l7")
        many = self.start(self.many)
        print(f"the first answer with 1 certificate after {few[0]:.2f} s ({few[1]:.2f} s of processor), "
              f"with {COUNT} after {many[0]:.2f} s ({many[1]:.2f} s)")
        self.assertTrue(self.is_served(1, 2))
        # One of them is renewed, under a connection that it was shown to.
        open_before = self.connect(7)
        before = self.processor_s()
        renewed = self.lab.directory / "renewed"
        self.make(renewed, 8, serial=COUNT * 2)
        (renewed / "7.pem").rename(self.made / "7.pem")
        began = time.monotonic()
        self.lab.weir("apply", "-f", self.many)
        applied = time.monotonic() - began
        wait_until("the new certificate", lambda: self.is_served(7, COUNT * 2 + 7), 10, step=0.01)
        took, used = time.monotonic() - began, self.processor_s() - before
        print(f"a changed one was served {took:.2f} s after it was applied ({used:.2f} s of processor; "
              f"the command took {applied:.2f} s)")
        with open_before:
            self.assertEqual(self.answered_with(open_before, 7), 8)
        self.assertTrue(self.is_served(8, 9))


if __name__ == "__main__":
    main()
