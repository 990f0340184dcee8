#include "cli/known_hosts_file.hpp"

#include "cli/places.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace curvegate::cli {
namespace {

constexpr unsigned kLockWait = 5000;  // milliseconds: another editor takes much less

Outcome<std::string> read_text(const std::string& path) {
    auto text = os::read_checked(path, os::Privacy::trusted, kLongestFile);
    if (!text) return std::unexpected(complain(exit_for_reading(path), text.error().detail()));
    return std::move(*text);
}

Outcome<std::vector<registry::Entry>> parse(std::string_view text, const std::string& path) {
    auto entries = registry::parse_known_hosts(text, path);
    if (entries) return std::move(*entries);
    complain(entries.error());
    return std::unexpected(exit_code::kBadData);
}

}  // namespace

Outcome<std::vector<registry::Entry>> read_known_hosts(const std::string& path) {
    const auto text = read_text(path);
    if (!text) return std::unexpected(text.error());
    return parse(*text, path);
}

Outcome<KnownHostsFile> KnownHostsFile::open(const std::string& path) {
    auto lock = os::FileLock::acquire(path + ".lock", kLockWait);
    if (!lock) return std::unexpected(complain(exit_for_writing(path), lock.error().detail()));
    KnownHostsFile file(path, std::move(*lock));
    if (auto read = file.read(); !read) return std::unexpected(read.error());
    return file;
}

Outcome<> KnownHostsFile::read() {
    struct stat info{};
    if (::lstat(path_.c_str(), &info) != 0 && errno == ENOENT) return {};
    auto text = read_text(path_);
    if (!text) return std::unexpected(text.error());
    auto entries = parse(*text, path_);
    if (!entries) return std::unexpected(entries.error());
    text_ = std::move(*text);
    entries_ = std::move(*entries);
    exists_ = true;
    mode_ = info.st_mode & 07777;
    uid_ = info.st_uid;
    gid_ = info.st_gid;
    return {};
}

int KnownHostsFile::replace(std::string_view text) const {
    if (auto replaced = os::replace_file(path_, as_bytes(text), mode_); !replaced) {
        return complain(exit_for_writing(path_), replaced.error().detail());
    }
    // Root may edit the daemon's file, which the daemon must be able to read again.
    const bool is_ours = uid_ == ::geteuid() && gid_ == ::getegid();
    if (exists_ && !is_ours && ::lchown(path_.c_str(), uid_, gid_) != 0 && uid_ != ::geteuid()) {
        return complain(exit_code::kNoPermission, os::fail_errno("chown " + path_).error().detail());
    }
    return exit_code::kOk;
}

}  // namespace curvegate::cli
