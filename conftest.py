"""For every test: one thread for the arithmetic, so that runs repeat, no window system, and a Ctrl-C that is heard."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts background commands like this, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
