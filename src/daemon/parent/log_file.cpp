#include "daemon/parent/log_file.hpp"

#include "os/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace curvegate::daemon::parent {
namespace {

constexpr mode_t kOthersWrite = 022;
constexpr int kMostLinks = 40;  // as Linux

int standard_stream(const std::string& path) {
    if (path == "/dev/stdout") return STDOUT_FILENO;
    return path == "/dev/stderr" ? STDERR_FILENO : -1;
}

os::UniqueFd open_to_append(const std::string& path, int access) {
    constexpr int kFlags = O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    return os::UniqueFd(::open(path.c_str(), access | kFlags, 0640));
}

std::unexpected<Error> refuse(const std::string& path, const std::string& why) {
    return fail(os::Errc::system, "log-file = " + path + ": " + why);
}

Result<os::UniqueFd> open_itself(const std::string& path) {
    auto fd = open_to_append(path, O_WRONLY);
    // A FIFO that nobody reads yet: opened for both, it holds lines until somebody does.
    if (!fd && errno == ENXIO) fd = open_to_append(path, O_RDWR);
    if (fd) return fd;
    const int code = errno;
    return refuse(path, std::strerror(code) + (code == EACCES ? restart_hint(path) : std::string()));
}

bool is_ours(const struct stat& info) {
    return info.st_uid == ::geteuid() || info.st_uid == 0;
}

Result<os::UniqueFd> open_linked(const std::string& path, const std::string& real) {
    auto fd = open_itself(real);
    if (!fd) return fd;
    struct stat info{};
    if (::fstat(fd->get(), &info) != 0) return refuse(path, std::strerror(errno));
    if (S_ISREG(info.st_mode) && (!is_ours(info) || (info.st_mode & kOthersWrite) != 0))
        return refuse(path, "leads to " + real +
                                ", which others may write to; name that file itself if it is the right one");
    return fd;
}

}  // namespace

bool is_standard_stream(const std::string& log_file) {
    return standard_stream(log_file) >= 0;
}

Result<os::UniqueFd> open_log(const std::string& path) {
    if (const int stream = standard_stream(path); stream >= 0) {
        os::UniqueFd copy(::fcntl(stream, F_DUPFD_CLOEXEC, 3));
        if (!copy) return os::fail_errno("log-file = " + path);
        return copy;
    }
    const auto real = follow_links(path);
    if (!real) return std::unexpected(real.error());
    return *real == path ? open_itself(path) : open_linked(path, *real);
}

Result<std::string> follow_links(const std::string& path) {
    std::string out = path;
    for (int links = 0; links < kMostLinks; ++links) {
        struct stat info{};
        if (::lstat(out.c_str(), &info) != 0 || !S_ISLNK(info.st_mode)) return out;
        if (!is_ours(info))
            return refuse(path, out + " is a symbolic link of uid " + std::to_string(info.st_uid));
        std::error_code error;
        const auto target = std::filesystem::read_symlink(out, error);
        if (error) return refuse(path, error.message());
        out = (std::filesystem::path(out).parent_path() / target).string();
    }
    return refuse(path, std::strerror(ELOOP));
}

std::string restart_hint(const std::string& path) {
    // Landlock does not speak through access().
    const bool there = ::access(path.c_str(), F_OK) == 0;
    const bool allowed =
        there ? ::access(path.c_str(), W_OK) == 0 : ::access(os::folder_of(path).c_str(), W_OK | X_OK) == 0;
    if (!allowed) return {};
    return " (the sandbox keeps the daemon to the folders that were there at its start, and this one came "
           "later: restart it)";
}

}  // namespace curvegate::daemon::parent
