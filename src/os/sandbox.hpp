#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace curvegate::os {

enum class SandboxErrc {
    unavailable = 1,  ///< the kernel lacks a piece; the detail says which. `sandbox = require` refuses to
                      ///< start (69), `try` warns and goes on.
};
[[nodiscard]] constexpr std::string_view layer_name(SandboxErrc) {
    return "sandbox";
}
[[nodiscard]] constexpr std::string_view describe(SandboxErrc) {
    return "the process cannot be confined (set sandbox = try to go on without)";
}

/// Which system calls a process may still make: what the tables in sandbox.cpp list, nothing else. In none is
/// memory writable and executable at once, nor is there a way to trace or read another process, change uids,
/// mount, make namespaces, or use bpf, keyrings or io_uring. But for the parent none can start a program or
/// a process, rename or remove.
enum class Calls {
    /// What all of the others need, since they are its children and inherit this: and beside it to start
    /// processes and programs, to kill them, to remove and rename files, and to confine itself further. What
    /// is named as forbidden fails with EPERM, what is not listed at all with ENOSYS.
    parent,
    /// Threads (but no processes), TCP, UDP and unix sockets, timers. It opens no files. What is named as
    /// forbidden fails with EPERM, what is not listed at all with ENOSYS, so that libraries fall back.
    front,
    /// What the front may, and what the system's resolver needs beside: opening what `Reach` leaves, netlink
    /// sockets, and code of name service modules mapped from files.
    lookup,
    /// Using descriptors that are open, accepting on a listener, and opening files to read. No sockets, no
    /// threads, no writing to a file that was not open before, no executable memory. All else fails with
    /// EPERM.
    vault,
};

/// What stays reachable in the file system (folders with all below them, or single files).
struct Reach {
    std::vector<std::string> readable;
    std::vector<std::string> writable;  ///< read, write, create; no removal, no directories
    // NOLINTBEGIN(readability-redundant-member-init): so that most may leave them out
    std::vector<std::string> managed{};     ///< as writable, and sockets are made, files removed and renamed
    std::vector<std::string> executable{};  ///< may be started as programs; nothing else may
    // NOLINTEND(readability-redundant-member-init)
};

/// Forbids core dumps and ptrace by the same uid (dumpable 0, RLIMIT_CORE 0) and sets no_new_privs.
[[nodiscard]] Result<> harden_process();
/// Landlock, then seccomp; for good. Call it before threads are started: seccomp covers all threads of the
/// process, Landlock this one and those that it starts. Both must succeed. Builds with AddressSanitizer or
/// ThreadSanitizer leave open what those need, ptrace among it.
/// Error: unavailable.
[[nodiscard]] Result<> confine(Calls calls, const Reach& reach);

}  // namespace curvegate::os
