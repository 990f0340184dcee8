#include "os/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

namespace curvegate::os {
namespace {

constexpr mode_t kSecretBits = 077;   // of group and others
constexpr mode_t kTrustedBits = 022;  // the same: to write
constexpr std::size_t kReadChunk = std::size_t{16} * 1024;

std::string octal(mode_t mode) {
    std::array<char, 8> out{};
    std::snprintf(out.data(), out.size(), "%04o", static_cast<unsigned>(mode & 07777));
    return out.data();
}

// What we trust must be ours or root's, with none of the `forbidden` bits.
Result<> check_owner(const struct stat& info, mode_t forbidden, const std::string& path) {
    if (info.st_uid != ::geteuid() && info.st_uid != 0) {
        const std::string owner = "uid " + std::to_string(info.st_uid);
        // Root must not take a user's file away, nor act on what that user may change at any time.
        const std::string advice = ::geteuid() == 0
                                       ? ", and root trusts root's files alone; run this as " + owner
                                       : "; chown it to uid " + std::to_string(::geteuid()) + " or root";
        return fail(Errc::system, path + " belongs to " + owner + advice);
    }
    if ((info.st_mode & forbidden) != 0) {
        return fail(Errc::system, path + " has mode " + octal(info.st_mode) + "; run chmod " +
                                      (forbidden == kSecretBits ? "600 " : "go-w ") + path);
    }
    return {};
}

Result<UniqueFd> open_new(const std::string& path, unsigned mode) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                       static_cast<mode_t>(mode)));
    if (!fd) return fail_errno("create " + path);
    // The umask may only ever take away; say the mode exactly.
    if (::fchmod(fd.get(), static_cast<mode_t>(mode)) != 0) return fail_errno("chmod " + path);
    return fd;
}

Result<> fill_new(const std::string& path, Bytes content, unsigned mode) {
    auto fd = open_new(path, mode);
    if (!fd) return fail(std::move(fd));
    auto written = write_all(fd->get(), content, path);
    if (written && ::fsync(fd->get()) != 0) written = fail_errno("fsync " + path);
    if (!written) ::unlink(path.c_str());
    return written;
}

Result<UniqueFd> open_lock(const std::string& path, const std::optional<Owner>& owner) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd && errno == EACCES && owner && ::access(path.c_str(), F_OK) == 0) {
        return fail(Errc::system, path +
                                      " belongs to somebody else, who made it when editing the same file; "
                                      "remove it while no other curvegate command runs");
    }
    if (!fd) return fail_errno("open " + path);
    struct stat info{};
    if (!owner || ::fstat(fd.get(), &info) != 0 || Owner{info.st_uid, info.st_gid} == *owner) return fd;
    // Only root can give it away, and only what is its own: then whoever owns the file can lock it, too.
    if (info.st_uid == 0 && ::geteuid() == 0 && ::fchown(fd.get(), owner->uid, owner->gid) != 0)
        return fail_errno("chown " + path);
    return fd;
}

bool stands_at(int fd, const std::string& path) {
    struct stat ours{};
    struct stat there{};
    return ::fstat(fd, &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

enum class Link { refuse, follow };

Result<UniqueFd> open_and_check(const std::string& path, Privacy privacy, int access,
                                Link link = Link::refuse) {
    const int nofollow = link == Link::refuse ? O_NOFOLLOW : 0;
    UniqueFd fd(::open(path.c_str(), access | nofollow | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600));
    if (!fd && errno == ELOOP) return fail(Errc::system, path + " is a symbolic link; name the file itself");
    if (!fd) return fail_errno(path);
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return fail_errno("stat " + path);
    if (!S_ISREG(info.st_mode)) return fail(Errc::system, path + " is not a regular file");
    const auto good = check_owner(info, privacy == Privacy::secret ? kSecretBits : kTrustedBits, path);
    if (!good) return std::unexpected(good.error());
    return fd;
}

}  // namespace

std::string folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Result<UniqueFd> open_checked(const std::string& path, Privacy privacy) {
    return open_and_check(path, privacy, O_RDONLY);
}

Result<UniqueFd> open_append_checked(const std::string& path, Privacy privacy) {
    return open_and_check(path, privacy, O_RDWR | O_APPEND | O_CREAT);
}

Result<std::string> read_all(int fd, std::size_t limit, std::string_view path) {
    std::string out;
    while (true) {
        const std::size_t had = out.size();
        out.resize(had + kReadChunk);
        const ssize_t got = ::read(fd, out.data() + had, kReadChunk);
        if (got < 0 && errno == EINTR) {
            out.resize(had);
            continue;
        }
        if (got < 0) return fail_errno("read " + std::string(path));
        out.resize(had + static_cast<std::size_t>(got));
        if (out.size() > limit) {
            return fail(Errc::system,
                        std::string(path) + " is longer than " + std::to_string(limit) + " bytes");
        }
        if (got == 0) return out;
    }
}

Result<std::string> read_checked(const std::string& path, Privacy privacy, std::size_t limit) {
    auto fd = open_checked(path, privacy);
    if (!fd) return fail(std::move(fd));
    return read_all(fd->get(), limit, path);
}

Result<UniqueFd> open_linked(const std::string& path) {
    return open_and_check(path, Privacy::trusted, O_RDONLY, Link::follow);
}

Result<std::string> read_linked(const std::string& path, std::size_t limit) {
    auto fd = open_linked(path);
    if (!fd) return fail(std::move(fd));
    return read_all(fd->get(), limit, path);
}

std::string end_of_link(const std::string& path) {
    std::error_code error;
    if (!std::filesystem::is_symlink(path, error)) return path;
    const auto real = std::filesystem::canonical(path, error);
    return error ? path : real.string();
}

Result<std::optional<std::vector<std::string>>> list_checked(const std::string& folder) {
    struct stat info{};
    if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) return std::nullopt;
    const auto good = check_owner(info, kTrustedBits, folder);
    if (!good) return std::unexpected(good.error());
    std::error_code error;
    std::vector<std::string> out;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error))
        out.push_back(entry->path().filename().string());
    if (error) return fail(Errc::system, folder + ": " + error.message());
    return out;
}

Result<> write_all(int fd, Bytes content, std::string_view path) {
    while (!content.empty()) {
        const ssize_t wrote = ::write(fd, content.data(), content.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail_errno("write " + std::string(path));
        content = content.subspan(static_cast<std::size_t>(wrote));
    }
    return {};
}

Result<> sync_folder(const std::string& folder) {
    const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail_errno("open " + folder);
    if (::fsync(fd.get()) != 0) return fail_errno("fsync " + folder);
    return {};
}

Result<> create_file(const std::string& path, Bytes content, unsigned mode) {
    if (auto filled = fill_new(path, content, mode); !filled) return filled;
    return sync_folder(folder_of(path));
}

Result<> replace_file(const std::string& path, Bytes content, unsigned mode) {
    const std::string beside = path + ".new";
    if (::unlink(beside.c_str()) != 0 && errno != ENOENT) return fail_errno("remove the old " + beside);
    if (auto filled = fill_new(beside, content, mode); !filled) return filled;
    if (::rename(beside.c_str(), path.c_str()) != 0) {
        auto failed = fail_errno("rename " + beside + " to " + path);
        ::unlink(beside.c_str());
        return failed;
    }
    return sync_folder(folder_of(path));
}

Result<UniqueFd> memory_file(Bytes bytes) {
    constexpr unsigned kNeverExecutable = 0x8;  // MFD_NOEXEC_SEAL; Linux 6.3
    UniqueFd fd(::memfd_create("curvegate", MFD_CLOEXEC | MFD_ALLOW_SEALING | kNeverExecutable));
    if (!fd && errno == EINVAL) fd.reset(::memfd_create("curvegate", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return fail_errno("memory file");
    if (auto filled = write_all(fd.get(), bytes, "memory file"); !filled) return fail(std::move(filled));
    constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno("seal a memory file");
    return fd;
}

Result<std::string> read_memory_file(int fd, std::size_t limit) {
    if (::lseek(fd, 0, SEEK_SET) != 0) return fail_errno("memory file");
    return read_all(fd, limit, "memory file");
}

Result<FileLock> FileLock::acquire(const std::string& path, unsigned milliseconds,
                                   std::optional<Owner> owner) {
    constexpr unsigned kStep = 20;
    for (unsigned waited = 0;; waited += kStep) {
        auto fd = open_lock(path, owner);
        if (!fd) return fail(std::move(fd));
        const bool locked = ::flock(fd->get(), LOCK_EX | LOCK_NB) == 0;
        if (locked && stands_at(fd->get(), path)) return FileLock(std::move(*fd));
        if (!locked && errno != EWOULDBLOCK && errno != EINTR) return fail_errno("lock " + path);
        if (waited >= milliseconds) {
            return fail(Errc::system,
                        path + " is locked by another process (is another vault or editor running?)");
        }
        if (!locked) ::usleep(kStep * 1000);
    }
}

}  // namespace curvegate::os
