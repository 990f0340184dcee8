#include "os/socket_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace curvegate::os {

void SocketFiles::add(std::string path) {
    UniqueFd named(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat info{};
    if (named && ::fstat(named.get(), &info) == 0 && S_ISSOCK(info.st_mode))
        files_.push_back({std::move(path), std::move(named)});
}

void SocketFiles::remove_unless(const std::function<bool(const std::string& path)>& wanted) {
    std::erase_if(files_, [&](const File& file) {
        if (wanted(file.path)) return false;
        struct stat made{};
        struct stat there{};
        if (::fstat(file.named.get(), &made) == 0 && ::lstat(file.path.c_str(), &there) == 0 &&
            made.st_dev == there.st_dev && made.st_ino == there.st_ino)
            ::unlink(file.path.c_str());
        return true;
    });
}

void SocketFiles::remove_all() {
    remove_unless([](const std::string&) { return false; });
}

}  // namespace curvegate::os
