"""Makes a running process do one system call, by ptrace: what the process may do is tried, not read off a table.

x86-64 only. The process goes on as if nothing had been: its registers are put back, and a call that was waiting is
made again by the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH, PTRACE_DETACH = 7, 9, 12, 13, 16, 17
WALL = 0x40000000
PATIENCE = 20.0  # seconds
SYSCALL = b"\x0f\x05"

# linux/arch/x86/entry/syscalls/syscall_64.tbl
NUMBERS = {
    "open": 2, "close": 3, "poll": 7, "mmap": 9, "mprotect": 10, "dup": 32, "socket": 41, "connect": 42, "recvfrom": 45, "sendmsg": 46, "bind": 49, "listen": 50,
    "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "truncate": 76, "rename": 82, "mkdir": 83,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "ptrace": 101, "setuid": 105, "setgid": 106,
    "capset": 126, "mknod": 133, "personality": 135, "pivot_root": 155, "prctl": 157, "chroot": 161, "mount": 165,
    "init_module": 175, "tkill": 200, "keyctl": 250, "openat": 257, "unshare": 272, "perf_event_open": 298,
    "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "memfd_create": 319,
    "bpf": 321, "execveat": 322, "userfaultfd": 323, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435,
    "openat2": 437, "pidfd_getfd": 438, "getpid": 39,
}  # fmt: skip


class Registers(ctypes.Structure):
    """struct user_regs_struct of x86-64."""

    _fields_ = [
        (name, ctypes.c_ulonglong)
        for name in (
            "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
            "ds es fs gs"
        ).split()
    ]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, data: object = None) -> None:
    ctypes.set_errno(0)
    if libc.ptrace(request, pid, None, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace {request} of {pid}: {os.strerror(code)}")


def why_not() -> str | None:
    """Why system calls cannot be tried like this on this machine, or nothing."""
    if platform.machine() != "x86_64":
        return "knows the system calls of x86-64 only"
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        libc.prctl(4, 0, 0, 0, 0)  # not dumpable, as the processes in question are
        os.write(tell, b"x")
        while True:
            signal.pause()
    os.read(told, 1)
    os.close(told)
    os.close(tell)
    try:
        with attached(child) as tracee:
            return None if tracee.call("getpid") == child else "system calls cannot be made in another process"
    except OSError as error:
        return f"ptrace does not work here: {error}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@dataclass
class Tracee:
    """A stopped thread that does what it is told."""

    pid: int
    saved: Registers
    instruction: int  # address of a `syscall`

    def call(self, name: str, *arguments: int | bytes | list[int]) -> int:
        """What the call gives: -errno where it fails. Bytes and lists of numbers are put on the stack, and their
        address is what is passed."""
        registers = Registers.from_buffer_copy(self.saved)
        stack = self.scratch
        values: list[int] = []
        for argument in arguments:
            if isinstance(argument, int):
                values.append(argument)
                continue
            data = (
                argument + b"\0" if isinstance(argument, bytes) else b"".join(v.to_bytes(8, "little") for v in argument)
            )
            self._write(stack, data)
            values.append(stack)
            stack += 512
        for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values + [0] * 6):
            setattr(registers, register, value & (2**64 - 1))
        registers.rax, registers.orig_rax, registers.rip = NUMBERS[name], 2**64 - 1, self.instruction
        ptrace(PTRACE_SETREGS, self.pid, ctypes.byref(registers))
        self._step(name)
        ptrace(PTRACE_GETREGS, self.pid, ctypes.byref(registers))
        return ctypes.c_longlong(registers.rax).value

    @property
    def scratch(self) -> int:
        """Where the first of a call's bytes are put."""
        return (self.saved.rsp - 16384) & ~0xFFF

    def send(self, fd: int, message: bytes, descriptors: list[int]) -> int:
        """sendmsg(2) with SCM_RIGHTS: msghdr, iovec, control message and message in one piece of memory."""
        at = self.scratch
        rights = struct.pack(f"<QII{len(descriptors)}i", 16 + 4 * len(descriptors), socket.SOL_SOCKET,
                             socket.SCM_RIGHTS, *descriptors) if descriptors else b""  # fmt: skip
        header = struct.pack("<QQQQQQQ", 0, 0, at + 64, 1, at + 96 if rights else 0, len(rights), 0)
        iovec = struct.pack("<QQ", at + 160, len(message))
        whole = header.ljust(64, b"\0") + iovec.ljust(32, b"\0") + rights.ljust(64, b"\0") + message
        return self.call("sendmsg", fd, whole, socket.MSG_NOSIGNAL)

    def receive(self, fd: int, size: int = 256) -> bytes:
        """The next message of a socket, cut to `size`; empty: its other end is closed."""
        deadline = time.monotonic() + PATIENCE
        while (got := self.call("recvfrom", fd, bytes(size), size, socket.MSG_DONTWAIT, 0, 0)) == -errno.EAGAIN:
            if time.monotonic() > deadline:
                raise TimeoutError("no answer came")
            time.sleep(0.001)
        if got < 0:
            return b""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(self.scratch)
            return memory.read(got)

    def _step(self, name: str) -> None:
        """A signal that comes first is swallowed: whoever is asked here is asked for nothing else."""
        while True:
            ptrace(PTRACE_SINGLESTEP, self.pid)
            _, status = os.waitpid(self.pid, WALL)
            if not os.WIFSTOPPED(status):
                raise ChildProcessError(f"{name} ended process {self.pid}: status {status:#x}")
            if os.WSTOPSIG(status) == signal.SIGTRAP:
                return

    def _write(self, address: int, data: bytes) -> None:
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(data)


def stop(pid: int) -> Tracee | None:
    """Nothing: it does not wait in a system call just now, and has been let go."""
    ptrace(PTRACE_ATTACH, pid)
    os.waitpid(pid, WALL)
    registers = Registers()
    ptrace(PTRACE_GETREGS, pid, ctypes.byref(registers))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(registers.rip - 2)
        if memory.read(2) == SYSCALL:
            return Tracee(pid, registers, registers.rip - 2)
    ptrace(PTRACE_DETACH, pid)
    return None


@contextmanager
def attached(pid: int) -> Iterator[Tracee]:
    """Stops the thread `pid` while the block runs: when it waits in a system call, as a daemon without work does."""
    deadline = time.monotonic() + PATIENCE
    while not (tracee := stop(pid)):
        if time.monotonic() > deadline:
            raise OSError(errno.EAGAIN, f"process {pid} does not wait in a system call")
        time.sleep(0.005)
    try:
        yield tracee
    finally:
        try:
            ptrace(PTRACE_SETREGS, pid, ctypes.byref(tracee.saved))
            ptrace(PTRACE_DETACH, pid)
        except OSError:
            pass  # it is gone
