# foreign.py: coir through ctypes: Python functions as fibers, a plain Python thread that spawns, and
# what is refused.
#
# Always true:
#   - A Python function that runs on a fiber parks only where the fibers it waits for end before it
#     goes on: the interpreter keeps one stack of frames for each thread.
#
# Comes from: ctypes.sh, with the path of libcoir.so.   Goes to: coir.h.
import ctypes
import errno
import os
import sys

coir = ctypes.CDLL(sys.argv[1])
BODY = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p)


class Fiber(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * 3)]


class Config(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("workers", ctypes.c_uint),
                ("fibers_max", ctypes.c_uint32), ("stack_bytes", ctypes.c_size_t),
                ("ring_entries", ctypes.c_uint), ("mailbox_slots", ctypes.c_uint)]


coir.coir_sleep.argtypes = [ctypes.c_int64]
coir.coir_join.argtypes = [Fiber, ctypes.c_void_p]
coir.coir_runtime_shutdown.argtypes = [ctypes.c_void_p, ctypes.c_int64]
coir.coir_runtime_destroy.argtypes = [ctypes.c_void_p]
coir.coir_runtime_start.argtypes = [ctypes.c_void_p]
coir.coir_spawn.argtypes = [BODY, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
coir.coir_spawn_on.argtypes = [ctypes.c_void_p, BODY, ctypes.c_void_p, ctypes.c_void_p,
                               ctypes.c_void_p]
coir.coir_run.argtypes = [ctypes.c_void_p, BODY, ctypes.c_void_p, ctypes.c_void_p]
coir.coir_write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
coir.coir_strerror.restype = ctypes.c_char_p


def check(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found}, expected {expected}")


def join(fiber):
    answer = ctypes.c_ssize_t(-1)
    check(coir.coir_join(fiber, ctypes.byref(answer)), 0, "join")
    return answer.value


@BODY
def doubled(argument):
    return 2 * (argument or 0)


@BODY
def root(argument):
    total = 0
    for i in range(argument):
        fiber = Fiber()
        check(coir.coir_spawn(doubled, i, None, ctypes.byref(fiber)), 0, "spawn")
        total += join(fiber)
    check(coir.coir_sleep(1000), 0, "sleep")
    check(coir.coir_write(write_end, b"written", 7), 7, "write")
    return total


read_end, write_end = os.pipe()
config = Config(size=ctypes.sizeof(Config), workers=2, fibers_max=1024, stack_bytes=1 << 20)
for life in range(5):
    answer = ctypes.c_ssize_t(-1)
    code = coir.coir_run(ctypes.byref(config), root, 50, ctypes.byref(answer))
    check(code, 0, "run: " + coir.coir_strerror(code).decode())
    check(answer.value, 2450, "the answer")
    check(os.read(read_end, 100), b"written", "what was written")

    runtime = ctypes.c_void_p()
    check(coir.coir_runtime_create(ctypes.byref(config), ctypes.byref(runtime)), 0, "create")
    check(coir.coir_runtime_start(runtime), 0, "start")
    fibers = [Fiber() for _ in range(20)]
    for i, fiber in enumerate(fibers):
        check(coir.coir_spawn_on(runtime, doubled, i, None, ctypes.byref(fiber)), 0, "spawn_on")
    check(sum(join(fiber) for fiber in fibers), 380, "the answers of a thread")
    check(coir.coir_spawn(doubled, 1, None, None), -errno.EPERM, "spawn on a thread")
    check(coir.coir_runtime_shutdown(runtime, 2**63 - 1), 0, "shutdown")
    check(coir.coir_runtime_destroy(runtime), 0, "destroy")
print("five lives by ctypes")
