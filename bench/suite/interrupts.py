"""Ctrl-C and its kin: whatever they hit, everything is taken down once, and in order."""

import signal

from programs import weirlab  # whose folder it knows

was_interrupted = False


def interrupt(*_):
    """Once: what begins then takes everything down, and another one would only keep it from that."""
    global was_interrupted  # pylint: disable=global-statement
    was_interrupted = True
    for number in weirlab.INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def take():
    """weir-bench, which knows the same ones, has held them back since before there was a handler. What nohup has had
    ignored stays so."""
    for number in weirlab.INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, weirlab.INTERRUPTS)


def check():
    """Where taking something down has failed because of it, and that was the exception that came here."""
    if was_interrupted:
        raise KeyboardInterrupt
