#include "os/locked_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace curvegate::os {
namespace {

constexpr unsigned kLockWait = 5000;  // milliseconds

}  // namespace

Result<LockedFile> LockedFile::lock(const std::string& path) {
    struct stat info{};
    std::optional<Owner> owner;
    if (::lstat(path.c_str(), &info) == 0) {
        if (auto good = open_checked(path, Privacy::trusted); !good) return fail(std::move(good));
        owner = {info.st_uid, info.st_gid};
    } else if (const std::string folder = folder_of(path);
               ::geteuid() == 0 && ::stat(folder.c_str(), &info) == 0 && info.st_uid != 0) {
        const std::string owner_of_folder = "uid " + std::to_string(info.st_uid);
        return fail(Errc::system, folder + " belongs to " + owner_of_folder +
                                      ", who could not use what root makes there; run this as " +
                                      owner_of_folder);
    }
    auto lock = FileLock::acquire(path + ".lock", kLockWait, owner);
    if (!lock) return fail(std::move(lock));
    return LockedFile(path, std::move(*lock));
}

Result<std::optional<std::string>> LockedFile::read(std::size_t limit) {
    struct stat info{};
    if (::lstat(path_.c_str(), &info) != 0 && errno == ENOENT) return std::nullopt;
    auto text = read_checked(path_, Privacy::trusted, limit);
    if (!text) return fail(std::move(text));
    mode_ = info.st_mode & 07777;
    owner_ = Owner{info.st_uid, info.st_gid};
    return std::move(*text);
}

Result<> LockedFile::replace(std::string_view text) const {
    if (auto replaced = replace_file(path_, as_bytes(text), mode_); !replaced) return replaced;
    // Root may edit the daemon's file, which the daemon must be able to read again.
    if (!owner_ || (owner_->uid == ::geteuid() && owner_->gid == ::getegid())) return {};
    if (::lchown(path_.c_str(), owner_->uid, owner_->gid) != 0 && owner_->uid != ::geteuid())
        return fail_errno("chown " + path_);
    return {};
}

}  // namespace curvegate::os
