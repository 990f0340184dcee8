#include "vault/private_file.hpp"

#include "os/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace curvegate::vault {
namespace {

/// "PATH: why the last call failed"
std::string because(const std::string& path) {
    return path + ": " + std::strerror(errno);
}

std::unexpected<FileProblem> problem(FileFault fault, std::string detail) {
    return std::unexpected(FileProblem{fault, std::move(detail)});
}

}  // namespace

std::expected<os::UniqueFd, FileProblem> open_private(const std::string& path, int flags, FileKind kind) {
    // O_NONBLOCK: a fifo in the file's place must not hold the program up.
    os::UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    if (!fd) {
        if (errno == ENOENT) return problem(FileFault::missing, path);
        if (errno == ELOOP || errno == EISDIR || errno == ENXIO) return problem(FileFault::not_regular, path);
        const bool denied = errno == EACCES || errno == EPERM;
        return problem(denied ? FileFault::denied : FileFault::unreadable, because(path));
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return problem(FileFault::unreadable, because(path));
    if (!S_ISREG(info.st_mode)) return problem(FileFault::not_regular, path);
    if (info.st_uid != ::geteuid() && info.st_uid != 0) return problem(FileFault::wrong_owner, path);
    const mode_t forbidden = kind == FileKind::credential ? 0037 : 0077;
    if ((info.st_mode & forbidden) != 0) return problem(FileFault::wrong_mode, path);
    return fd;
}

std::expected<void, FileProblem> check_private(int fd, const std::string& path) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) return problem(FileFault::unreadable, because(path));
    if (!S_ISREG(info.st_mode)) return problem(FileFault::not_regular, path);
    if (info.st_uid != ::geteuid()) return problem(FileFault::wrong_owner, path);
    if ((info.st_mode & 0077) != 0) return problem(FileFault::wrong_mode, path);
    return {};
}

bool is_folder_missing(const std::string& path) {
    return ::access(os::folder_of(path).c_str(), F_OK) != 0 && errno == ENOENT;
}

}  // namespace curvegate::vault
