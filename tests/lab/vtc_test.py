"""weir-l7 between varnishtest's clients and servers, which speak HTTP/1 and HTTP/2 frame by frame: each
vtc/NAME.vtc is a script of both sides."""

import pathlib

from labcase import *

SCRIPTS = sorted((pathlib.Path(__file__).parent / "vtc").glob("*.vtc"))
PORT, H1_PORT, H2_PORT = 8080, 9081, 9082


class Scripts(LabCase):

    @classmethod
    def start_backends(cls):
        """The scripts are."""

    @classmethod
    def prepare(cls):
        config = cls.lab.write_config(f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
  l7: {{workers: 1, addresses: [{L7_4}/24, "{L7_6}/64"]}}
gateways:
- name: edge
  addresses: [{VIP_EDGE4}]
  listeners: [{{name: plain, port: {PORT}, protocol: HTTP}}]
services:
  one: {{endpoints: ["{CLIENT4}:{H1_PORT}"]}}
  two: {{endpoints: ["{CLIENT4}:{H2_PORT}"], protocol: h2c}}
httpRoutes:
- name: all
  parentRefs: [{{name: edge}}]
  rules:
  - {{backendRefs: [{{name: one}}]}}
  - {{matches: [{{path: {{prefix: /h2}}}}], backendRefs: [{{name: two}}]}}
""")
        cls.lab.weir("apply", "-f", config)
        cls.lab.start_l7(config)

    def play(self, script):
        # Both sides are in one process, so in one namespace: the client's.
        macros = {"vip": f"{VIP_EDGE4}:{PORT}", "client": CLIENT4,
                  "h1": f"{CLIENT4}:{H1_PORT}", "h2": f"{CLIENT4}:{H2_PORT}"}
        return self.lab.run_in("client", "varnishtest", "-v", "-t", 30,
                               *(f"-D{name}={value}" for name, value in macros.items()), script,
                               check=False)

    def test_every_script_is_played_to_its_end(self):
        self.assertGreaterEqual(len(SCRIPTS), 12)
        for script in SCRIPTS:
            with self.subTest(script.stem):
                done = self.play(script)
                self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr)

    def test_a_script_that_expects_something_else_fails(self):
        wrong = self.lab.directory / "wrong.vtc"
        wrong.write_text((SCRIPTS[0].parent / "length.vtc").read_text().replace("== 201", "== 202"))
        done = self.play(wrong)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('EXPECT resp.status (201) == "202" failed', done.stdout)


if __name__ == "__main__":
    main()
