#pragma once

#include "os/socket.hpp"

#include <expected>
#include <string>

namespace curvegate::vault {

/// The user's fault, or the disk's. Response: that of the code which each reader makes of it (KeyFileErrc,
/// CounterErrc, RotationErrc).
enum class FileFault {
    missing,      ///< no file
    denied,       ///< this user may not
    unreadable,   ///< the system does not open it for another reason
    not_regular,  ///< a symlink, a folder, a fifo...
    wrong_owner,  ///< not ours and not root's
    wrong_mode,   ///< open to group or others
};
struct FileProblem {
    FileFault fault;
    std::string detail;  ///< the path, and the system's reason where there is one
};

enum class FileKind {
    own,         ///< mode 0600 or less
    credential,  ///< in $CREDENTIALS_DIRECTORY: systemd may let the unit's user read by an ACL, seen as 0440
};

/// The checks of open_private() on a descriptor that somebody else opened, and one more: the file must be
/// this user's own, so that the next start can open it as well. `path` is for the words.
[[nodiscard]] std::expected<void, FileProblem> check_private(int fd, const std::string& path);

/// Opens a file that holds a secret or decides about one. `flags` are open(2)'s (O_RDONLY or O_RDWR); a last
/// symlink is never followed, and type, owner and mode are checked on the descriptor.
[[nodiscard]] std::expected<os::UniqueFd, FileProblem> open_private(const std::string& path, int flags,
                                                                    FileKind kind = FileKind::own);

/// Is the folder that `path` would stand in not there at all?
[[nodiscard]] bool is_folder_missing(const std::string& path);

}  // namespace curvegate::vault
