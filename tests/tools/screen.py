"""A terminal to run programs on: a pty and as much of its screen as ncurses writes to an xterm."""

import codecs
import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

SEQUENCE = re.compile(r"\x1b(?:\[([?>]?)([\d;]*)([@-~])|([()])(.)|([=>78M]))")


class Screen:
    """What the bytes that a program writes look like."""

    def __init__(self, height, width):
        self.alternate = False
        self.cursor_hidden = False
        self.resize(height, width)

    def resize(self, height, width):
        self.height, self.width = height, width
        self.rows = [[" "] * width for _ in range(height)]
        self.y = self.x = 0
        self.region = (0, height)
        self.rest = ""

    def lines(self):
        return ["".join(row).rstrip() for row in self.rows]

    def text(self):
        return "\n".join(self.lines())

    def feed(self, text):
        text = self.rest + text
        self.rest = ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                match = SEQUENCE.match(text, at)
                if not match:
                    self.rest = text[at:]  # its end comes with the next piece
                    return
                self.obey(match)
                at = match.end()
            else:
                self.put(text[at])
                at += 1

    def put(self, c):
        if c == "\r":
            self.x = 0
        elif c == "\n":
            self.line_down()
        elif c == "\b":
            self.x = max(self.x - 1, 0)
        elif c == "\t":
            self.x = min((self.x // 8 + 1) * 8, self.width - 1)
        elif c >= " ":
            if self.x >= self.width:
                self.x = 0
                self.line_down()
            self.rows[self.y][self.x] = c
            self.x += 1
            self.last = c

    def obey(self, match):
        private, numbers, final = match.group(1, 2, 3)
        if match.group(6) == "M":
            self.line_up()
        if not final:
            return
        values = [int(n) if n else 0 for n in numbers.split(";")]
        count = max(values[0], 1)
        if private == "?":
            if 1049 in values:
                self.alternate = final == "h"
            if 25 in values:
                self.cursor_hidden = final == "l"
        elif final in "Hf":
            self.y = min(count - 1, self.height - 1)
            self.x = min(max(values[1], 1) - 1 if len(values) > 1 else 0, self.width - 1)
        elif final == "A":
            self.y = max(self.y - count, 0)
        elif final == "B":
            self.y = min(self.y + count, self.height - 1)
        elif final == "C":
            self.x = min(self.x + count, self.width - 1)
        elif final == "D":
            self.x = max(self.x - count, 0)
        elif final == "G":
            self.x = min(count - 1, self.width - 1)
        elif final == "d":
            self.y = min(count - 1, self.height - 1)
        elif final == "r":
            self.region = (count - 1, values[1] if len(values) > 1 and values[1] else self.height)
            self.y = self.x = 0
        elif final in "ST":
            self.scroll(count if final == "S" else -count)
        elif final == "X":
            self.blank(self.y, self.x, self.x + count)
        elif final == "P":
            row = self.rows[self.y]
            self.rows[self.y] = row[:self.x] + row[self.x + count:] + [" "] * count
            self.rows[self.y] = self.rows[self.y][:self.width]
        elif final == "@":
            row = self.rows[self.y]
            self.rows[self.y] = (row[:self.x] + [" "] * count + row[self.x:])[:self.width]
        elif final == "b":
            for _ in range(count):
                self.put(self.last)
        elif final == "K":
            first = 0 if values[0] else self.x
            self.blank(self.y, first, self.x + 1 if values[0] == 1 else self.width)
        elif final == "J":
            if values[0] == 2:
                for y in range(self.height):
                    self.blank(y, 0, self.width)
            else:
                self.blank(self.y, self.x, self.width)
                for y in range(self.y + 1, self.height):
                    self.blank(y, 0, self.width)

    def line_down(self):
        if self.y == self.region[1] - 1:
            self.scroll(1)
        else:
            self.y = min(self.y + 1, self.height - 1)

    def line_up(self):
        if self.y == self.region[0]:
            self.scroll(-1)
        else:
            self.y = max(self.y - 1, 0)

    def scroll(self, up):
        first, end = self.region
        kept = self.rows[first:end]
        blanks = [[" "] * self.width for _ in range(min(abs(up), len(kept)))]
        kept = kept[up:] + blanks if up > 0 else blanks + kept[:up]
        self.rows[first:end] = kept[:end - first]

    def blank(self, y, first, end):
        for x in range(first, min(end, self.width)):
            self.rows[y][x] = " "


class Terminal:
    """A program on a pty of its own."""

    def __init__(self, command, height=24, width=80, environment=None):
        self.screen = Screen(height, width)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = ""
        self.status = None
        self.master, slave = pty.openpty()
        self.set_size(height, width)
        self.modes = termios.tcgetattr(slave)
        self.slave = slave  # kept open: its modes are looked at when the program has ended
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.closerange(3, 256)
            os.execve(command[0], command, environment or os.environ)

    def set_size(self, height, width):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, height, width):
        self.pump(0.05)
        self.screen.resize(height, width)
        self.set_size(height, width)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def signal(self, number):
        os.kill(self.pid, number)

    def pump(self, seconds):
        """Takes in what comes within the time, or until the terminal is closed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                return
            try:
                data = os.read(self.master, 65536)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return
            text = self.decoder.decode(data)
            self.raw += text
            self.screen.feed(text)

    def wait_for(self, wanted, seconds=20):
        """Until the screen is as wanted: a text on it, or a condition."""
        condition = wanted if callable(wanted) else lambda: wanted in self.screen.text()
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {wanted!r}; the screen is\n{self.screen.text()}")
            self.pump(0.05)

    def wait_end(self, seconds=20):
        """The status of the program that has ended, as waitpid() gives it."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            self.pump(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
            elif time.monotonic() > deadline:
                raise AssertionError(f"it does not end; the screen is\n{self.screen.text()}")
        self.pump(0.2)
        return self.status

    def modes_now(self):
        return termios.tcgetattr(self.slave)

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)
