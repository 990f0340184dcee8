#include "cli/production_facts.hpp"

#include "os/connect_unix.hpp"
#include "os/file.hpp"
#include "os/socket.hpp"
#include "os/spawn.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace curvegate::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kPatience{5};
constexpr std::size_t kMostSaid = std::size_t{16} * 1024;
constexpr unsigned kLandlockVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION

void add_way(fs::path path, std::vector<Look>& out) {
    for (;;) {
        const auto known = std::ranges::find(out, path.string(), &Look::path);
        if (known == out.end()) out.push_back(look_at(path.string()));
        if (path == path.parent_path()) return;
        path = path.parent_path();
    }
}

KeyFacts facts_of(const config::Config& config, KeyUse use) {
    KeyFacts out{std::move(use), {}, false, {}, {}, {}};
    if (out.use.path.empty()) return out;
    out.file = look_up(out.use.path);
    out.readable = ::access(out.use.path.c_str(), R_OK) == 0;
    const auto header = read_key_header(out.use);
    if (!header) return out;
    out.sealed = header->sealed;
    out.counter = counter_of(config, out.use, header->public_key);
    if (::access(out.counter.c_str(), R_OK) == 0 || errno == ENOENT)
        out.state = look_at_counter(out.counter, header->public_key);
    return out;
}

Peer peer_at(const std::string& path, int type) {
    Peer out{Peer::State::silent, path, 0, 0};
    if (path.empty()) return {};
    const auto fd = os::connect_unix(path, type, kPatience);
    if (!fd) {
        if (fd.error() == EACCES || fd.error() == EPERM) out.state = Peer::State::denied;
        return out;
    }
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(fd->get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return out;
    out.state = Peer::State::there;
    out.uid = who.uid;
    out.pid = who.pid;
    return out;
}

Program program(std::string name) {
    Program out{std::move(name), {}, {}, {}};
    const bool self = out.name == "curvegate";
    std::error_code error;
    const auto path =
        self ? fs::read_symlink("/proc/self/exe", error).string() : os::sibling_program(out.name);
    if (!path.contains('/')) return out;
    const auto real = fs::canonical(path, error);
    if (error) return out;
    out.path = real.string();
    out.file = look_up(out.path);
    return out;
}

/// Nobody but root could have put anything there, so it may be run.
bool is_roots(const std::vector<Look>& file) {
    return std::ranges::all_of(file, [](const Look& look) {
        const bool sticky = S_ISDIR(look.mode) && (look.mode & S_ISVTX) != 0;
        return look.error == 0 && look.uid == 0 && ((look.mode & 022) == 0 || sticky);
    });
}

std::vector<Program> all_programs() {
    std::vector<Program> out;
    for (const char* name : {"curvegate", "curvegated", "curvegate-vault"}) {
        out.push_back(program(name));
        Program& last = out.back();
        // As the user whose files they are nothing is lost by running them; root must not run another's.
        if (last.path.empty() || (::geteuid() == 0 && !is_roots(last.file))) continue;
        const Ran ran = run_program({last.path, "--version"});
        if (ran.status == 0) last.version = ran.said.substr(ran.said.rfind(' ') + 1);
        while (last.version.ends_with('\n')) last.version.pop_back();
    }
    return out;
}

std::optional<std::uint64_t> hard_limit_of(int pid) {
    std::ifstream limits("/proc/" + std::to_string(pid) + "/limits");
    constexpr std::string_view kName = "Max open files";
    for (std::string line; std::getline(limits, line);) {
        if (!line.starts_with(kName)) continue;
        std::istringstream words(line.substr(kName.size()));
        std::string soft;
        std::uint64_t hard = 0;
        if (words >> soft >> hard) return hard;
        return UINT64_MAX;  // "unlimited"
    }
    return std::nullopt;
}

std::optional<std::uint64_t> descriptors_of(const Peer& daemon) {
    if (daemon.state == Peer::State::there) return hard_limit_of(daemon.pid);
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::nullopt;
    return limit.rlim_max;
}

bool is_clock_set() {
    timex query{};
    return ::adjtimex(&query) != TIME_ERROR && (query.status & STA_UNSYNC) == 0;
}

std::string vanishing(const struct statfs& info) {
    switch (static_cast<unsigned long>(info.f_type)) {
        case TMPFS_MAGIC: return "tmpfs";
        case RAMFS_MAGIC: return "ramfs";
        case OVERLAYFS_SUPER_MAGIC: return "overlayfs";
        case NFS_SUPER_MAGIC: return "NFS";
        default: return {};
    }
}

}  // namespace

Look look_at(const std::string& path) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0) return {path, errno, 0, 0};
    return {path, 0, info.st_uid, info.st_mode};
}

std::vector<Look> look_up(const std::string& path) {
    std::error_code error;
    std::vector<Look> out;
    const auto real = fs::canonical(path, error);
    add_way(error ? fs::absolute(path).lexically_normal() : real, out);
    if (!error) {
        // Whoever changes a link on the way changes what is found there; a link itself has no mode.
        std::vector<Look> written;
        add_way(fs::absolute(path).lexically_normal(), written);
        for (auto& look : written) {
            const bool known = std::ranges::find(out, look.path, &Look::path) != out.end();
            if (!known && !S_ISLNK(look.mode)) out.push_back(std::move(look));
        }
    }
    return out;
}

Disk look_at_disk(const std::string& folder) {
    Disk out{folder, 0, {}, 0, 0};
    struct statfs kind{};
    struct statvfs room{};
    if (::statfs(folder.c_str(), &kind) != 0 || ::statvfs(folder.c_str(), &room) != 0) {
        out.error = errno;
        return out;
    }
    out.vanishing = vanishing(kind);
    out.free = std::uint64_t{room.f_bavail} * room.f_frsize;
    out.size = std::uint64_t{room.f_blocks} * room.f_frsize;
    return out;
}

Facts gather(const config::Parsed& parsed, Dial dial) {
    const config::Config& config = parsed.config;
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    Facts out{parsed, dial, now,   ::geteuid(), examine(parsed, now), {}, {}, {}, {}, {}, {}, {},
              {},     0,    false, {}};
    out.config_file = look_up(config.file);
    out.known_hosts = look_up(config.known_hosts);
    // Those of a vault that runs on its own are its unit's business.
    if (config.vault_socket.empty()) {
        for (KeyUse& use : keys_in_use(parsed)) out.keys.push_back(facts_of(config, std::move(use)));
    }
    out.daemon = peer_at(config.control, SOCK_STREAM);
    out.vault = peer_at(config.vault_socket, SOCK_SEQPACKET);
    if (!config.control.empty()) {
        out.control_socket = look_at(config.control);
        out.control_folder = look_at(os::folder_of(config.control));
    }
    out.programs = all_programs();
    out.landlock =
        std::max(0, static_cast<int>(::syscall(SYS_landlock_create_ruleset, nullptr, 0, kLandlockVersion)));
    out.clock_set = is_clock_set();
    out.descriptors = descriptors_of(out.daemon);
    return out;
}

Ran run_program(const std::vector<std::string>& words) {
    Ran not_started{127, {}};
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return not_started;
    const os::UniqueFd reading(pipe[0]);
    os::UniqueFd writing(pipe[1]);
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (const auto& word : words)
        argv.push_back(const_cast<char*>(word.c_str()));  // NOLINT: exec's old form
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
    pid_t pid = -1;
    const int failed = ::posix_spawn(&pid, words.front().c_str(), &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) return not_started;
    writing.reset();
    Ran out;
    std::array<char, 4096> part{};
    for (;;) {
        const ssize_t got = ::read(reading.get(), part.data(), part.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (out.said.size() < kMostSaid) out.said.append(part.data(), static_cast<std::size_t>(got));
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    out.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return out;
}

}  // namespace curvegate::cli
