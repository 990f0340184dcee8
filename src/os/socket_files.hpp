#pragma once

#include "os/socket.hpp"

#include <functional>
#include <string>
#include <vector>

namespace curvegate::os {

/// The files of unix sockets that this process has bound, to remove them when they are not needed any more.
/// Whatever came to stand at such a path later is somebody else's and is left alone.
class SocketFiles {
  public:
    /// bind() has just made the file at `path`. A descriptor that only names the file (O_PATH) is held, so
    /// that the kernel gives its inode number to no other file.
    void add(std::string path);
    /// Removes those for whose path `wanted` says no.
    void remove_unless(const std::function<bool(const std::string& path)>& wanted);
    void remove_all();
    /// In a process that does not answer for them: nothing is removed.
    void forget() noexcept { files_.clear(); }

  private:
    struct File {
        std::string path;
        UniqueFd named;
    };
    std::vector<File> files_;
};

}  // namespace curvegate::os
