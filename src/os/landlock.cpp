#include "os/landlock.hpp"

#include "os/sanitizer.hpp"
#include "os/socket.hpp"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace curvegate::os {
namespace {

// Debian 12's headers stop at ABI 2; the numbers are the kernel's (include/uapi/linux/landlock.h).
constexpr std::uint64_t kTruncate = std::uint64_t{1} << 14;  // ABI 3
constexpr std::uint64_t kIoctlDev = std::uint64_t{1} << 15;  // ABI 5
constexpr std::uint64_t kTcpBoth = 0b11;                     // ABI 4: bind and connect
constexpr std::uint64_t kScopeAbstract = 0b01;               // ABI 6: abstract unix sockets
constexpr std::uint64_t kScopeSignals = 0b10;                // ABI 6

struct Attributes {
    std::uint64_t files = 0;
    std::uint64_t net = 0;
    std::uint64_t scoped = 0;
};

constexpr std::uint64_t kAbi1Files = (std::uint64_t{1} << 13) - 1;
constexpr std::uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr std::uint64_t kReadFolder = kReadFile | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWriteFile = kReadFile | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;
constexpr std::uint64_t kWriteFolder = kReadFolder | kWriteFile | LANDLOCK_ACCESS_FS_MAKE_REG;
constexpr std::uint64_t kManageFolder =
    kWriteFolder | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;
constexpr std::uint64_t kExecute = LANDLOCK_ACCESS_FS_EXECUTE;

std::unexpected<Error> unavailable(const std::string& doing) {
    return fail(SandboxErrc::unavailable, doing + ": " + std::strerror(errno));
}

/// All that this kernel can forbid, as far as we know the kernel.
Attributes attributes_of(long abi, Calls calls) {
    Attributes all{kAbi1Files, 0, 0};
    if (abi >= 2) all.files |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3) all.files |= kTruncate;
    if (abi >= 4 && calls == Calls::vault) all.net = kTcpBoth;
    if (abi >= 5) all.files |= kIoctlDev;
    if (abi >= 6) all.scoped = calls == Calls::parent ? kScopeSignals : kScopeSignals | kScopeAbstract;
    return all;
}

/// Fields that the kernel's ABI does not know must not be passed.
std::size_t size_of(long abi) {
    if (abi >= 6) return sizeof(Attributes);
    return abi >= 4 ? offsetof(Attributes, scoped) : offsetof(Attributes, net);
}

Result<> allow(int ruleset, const std::string& path, std::uint64_t for_folder, std::uint64_t for_file) {
    const UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd && (errno == ENOENT || errno == ENOTDIR || errno == EACCES)) return {};
    if (!fd) return unavailable("open " + path);
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return unavailable("stat " + path);
    const landlock_path_beneath_attr rule{S_ISDIR(info.st_mode) ? for_folder : for_file, fd.get()};
    if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
        return unavailable("Landlock rule for " + path);
    }
    return {};
}

/// All paths of `reach`; `handled` is what the ruleset forbids, and no rule may allow more than that.
Result<> allow_all(int ruleset, const Reach& reach, std::uint64_t handled) {
    struct Kind {
        const std::vector<std::string>& paths;
        std::uint64_t for_folder;
        std::uint64_t for_file;
    };
    // A managed file is a terminal that a passphrase is asked at: its echo is switched off.
    for (const auto& kind :
         {Kind{reach.readable, kReadFolder, kReadFile}, Kind{reach.writable, kWriteFolder, kWriteFile},
          Kind{reach.managed, kManageFolder, kWriteFile | kIoctlDev},
          Kind{reach.executable, kExecute | kReadFolder, kExecute | kReadFile}}) {
        for (const auto& path : kind.paths) {
            auto allowed = allow(ruleset, path, kind.for_folder & handled, kind.for_file & handled);
            if (!allowed) return allowed;
        }
    }
    return {};
}

}  // namespace

Result<> restrict_files(Calls calls, const Reach& reach) {
    const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) return unavailable("Landlock is not in this kernel or switched off");
    const Attributes attributes = attributes_of(abi, calls);
    const UniqueFd ruleset(
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size_of(abi), 0)));
    if (!ruleset) return unavailable("Landlock ruleset");
    if (auto allowed = allow_all(ruleset.get(), reach, attributes.files); !allowed) return allowed;
    if (kSanitized) {  // LeakSanitizer lists the threads of the process when it ends
        auto allowed = allow(ruleset.get(), "/proc", kReadFolder, kReadFile);
        if (!allowed) return allowed;
    }
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return unavailable("no_new_privs");
    if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return unavailable("Landlock");
    return {};
}

}  // namespace curvegate::os
