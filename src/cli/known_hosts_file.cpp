#include "cli/known_hosts_file.hpp"

#include "cli/places.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace curvegate::cli {
namespace {

/// Whoever owns the file: to look at it is not to trust it.
Outcome<std::string> read_text(const std::string& path) {
    const os::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd && errno == ENOENT) {
        return std::unexpected(
            complain(exit_code::kNoInput,
                     path + ": there is no such file yet: curvegate peers add NAME KEY makes it"));
    }
    if (!fd) {
        const std::string why = std::strerror(errno);
        return std::unexpected(complain(exit_for_reading(path), path + ": " + why));
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return std::unexpected(complain(exit_code::kBadData, path + " is not a regular file"));
    auto text = os::read_all(fd.get(), kLongestFile, path);
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
    const std::string file_path = os::end_of_link(path);
    auto locked = os::LockedFile::lock(file_path);
    if (!locked) {
        const bool there = ::access(file_path.c_str(), F_OK) == 0;
        const bool refused = there && !os::open_checked(file_path, os::Privacy::trusted);
        return std::unexpected(
            complain(refused ? exit_code::kNoPermission : exit_for_writing(path), locked.error().detail()));
    }
    KnownHostsFile file(std::move(*locked));
    if (auto read = file.read(); !read) return std::unexpected(read.error());
    return file;
}

Outcome<> KnownHostsFile::read() {
    auto text = file_.read(kLongestFile);
    if (!text) return std::unexpected(complain(exit_for_reading(path()), text.error().detail()));
    if (!*text) return {};
    auto entries = parse(**text, path());
    if (!entries) return std::unexpected(entries.error());
    text_ = std::move(**text);
    entries_ = std::move(*entries);
    return {};
}

int KnownHostsFile::replace(std::string_view text) const {
    if (auto replaced = file_.replace(text); !replaced)
        return complain(exit_for_writing(path()), replaced.error().detail());
    return exit_code::kOk;
}

}  // namespace curvegate::cli
