"""The bpf() calls that bpftool has no words for, or is slow at: whole arrays at once, and frames
that a program's test-run sends for real."""

import ctypes
import os
import struct

MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, OBJ_GET, PROG_TEST_RUN = 1, 2, 7, 10
MAP_GET_FD_BY_ID, MAP_LOOKUP_BATCH = 14, 24
TEST_XDP_LIVE_FRAMES = 2
ATTRIBUTE_BYTES = 128  # what is longer than a kernel knows has to be zero
NUMBERS = {"x86_64": 321, "aarch64": 280}
LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command, *fields):
    """fields: a struct format, and its values. Returns what the call does, and the attributes."""
    attributes = ctypes.create_string_buffer(struct.pack(*fields), ATTRIBUTE_BYTES)
    result = LIBC.syscall(NUMBERS[os.uname().machine], command, attributes,
                          struct.calcsize(fields[0]) + 7 & ~7)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf call {command}: {os.strerror(error)}")
    return result, attributes.raw


def open_pinned(path):
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(OBJ_GET, "=QII", ctypes.addressof(name), 0, 0)[0]


def lookup(map_descriptor, key, value_bytes):
    key = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_bytes)
    bpf(MAP_LOOKUP_ELEM, "=IIQQQ", map_descriptor, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    return value.raw


def update(map_descriptor, key, value):
    key = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value, len(value))
    bpf(MAP_UPDATE_ELEM, "=IIQQQ", map_descriptor, 0, ctypes.addressof(key), ctypes.addressof(value), 0)


def inner_map(outer_descriptor, index):
    """The map in a slot of an array of maps."""
    number = struct.unpack("=I", lookup(outer_descriptor, struct.pack("=I", index), 4))[0]
    return bpf(MAP_GET_FD_BY_ID, "=III", number, 0, 0)[0]


def read_array(map_descriptor, count, value_bytes):
    """The values of a whole array, one after the other."""
    cursor = ctypes.create_string_buffer(4)
    keys = ctypes.create_string_buffer(4 * count)
    values = ctypes.create_string_buffer(value_bytes * count)
    bpf(MAP_LOOKUP_BATCH, "=QQQQIIQQ", 0, ctypes.addressof(cursor), ctypes.addressof(keys),
        ctypes.addressof(values), count, map_descriptor, 0, 0)
    return values.raw


def run_once(program_descriptor, frame):
    """What an XDP program returns for a frame, and the frame as it leaves it."""
    data = ctypes.create_string_buffer(frame, len(frame))
    out = ctypes.create_string_buffer(len(frame) + 256)
    _, attributes = bpf(PROG_TEST_RUN, "=IIIIQQII", program_descriptor, 0, len(frame), len(out),
                        ctypes.addressof(data), ctypes.addressof(out), 1, 0)
    _, verdict, _, size = struct.unpack_from("=IIII", attributes)
    return verdict, out.raw[:size]


def send_frames(program_descriptor, frame, ifindex, repeat, batch=64):
    """Runs an XDP program over copies of a frame that seem to have come in by the device; what it
    returns happens to them."""
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(struct.pack("=IIIIII", 0, len(frame), 0, ifindex, 0, 0), 24)
    bpf(PROG_TEST_RUN, "=IIIIQQIIIIQQIII", program_descriptor, 0, len(frame), 0,
        ctypes.addressof(data), 0, repeat, 0, len(context), 0, ctypes.addressof(context), 0,
        TEST_XDP_LIVE_FRAMES, 0, batch)
