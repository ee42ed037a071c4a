# switch_steps.py: inside gdb: steps through a switch, instruction by instruction, and at each of
# them asks for a backtrace and delivers a signal.
#
# Always true:
#   - A backtrace ends at main or at coir_fiber_entry, and every frame of it has a name.
#   - The handler has run once for each signal, and the program then stands where it stood.
#
# Comes from: switch_steps.sh.   Goes to: switch_frames.cpp, gdb(1).
import os

import gdb

ENDS = ("main", "coir_fiber_entry")


def names():
    found = []
    frame = gdb.newest_frame()
    while frame is not None and len(found) < 20:
        found.append(frame.name())
        frame = frame.older()
    return found


def handled():
    return int(gdb.parse_and_eval("signals_handled"))


def place():
    return int(gdb.newest_frame().pc())


def quietly(command):
    gdb.execute(command, to_string=True)


def survives_signal():
    before, here = handled(), place()
    stop = gdb.Breakpoint("*%d" % here, internal=True)
    quietly("signal SIGUSR1")
    stop.delete()
    return handled() == before + 1 and place() == here


def begin():
    quietly("set confirm off")
    quietly("set style enabled off")
    quietly("break steps_begin")
    server = os.environ.get("GDB_SERVER")
    if server:
        quietly("target remote " + server)
        quietly("continue")
    else:
        quietly("run")
    quietly("handle SIGUSR1 nostop noprint pass")


def walk():
    steps = on_fiber = in_entry = wrong = 0
    while gdb.newest_frame().name() != "steps_end" and steps < 1000:
        found = names()
        at = "%s at %#x" % (found[0], place())
        if None in found or found[-1] not in ENDS:
            wrong += 1
            print("no way out of %s: %s" % (at, found))
        if found[0] != "steps_begin" and not survives_signal():
            print("a signal in %s was not survived" % at)
            wrong += 1
            break
        steps += 1
        on_fiber += found[-1] == "coir_fiber_entry"
        in_entry += found[0] == "coir_fiber_entry"
        quietly("stepi")
    print("%d steps with a signal each, %d of them on the fiber, %d in its entry, %d wrong"
          % (steps, on_fiber, in_entry, wrong))
    return wrong == 0 and 40 < steps < 500 and on_fiber > 20 and in_entry >= 5


begin()
good = walk()
quietly("kill")
gdb.execute("quit %d" % (0 if good else 1))
