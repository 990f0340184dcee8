#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "os/socket.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::os {

/// How a file that decides about trust must look before it is read.
enum class Privacy {
    secret,   ///< regular, ours or root's, no access for group and others
    trusted,  ///< regular, ours or root's, not writable by group and others
};

/// Opens for reading without following a last symlink and checks type, owner and mode on the
/// descriptor. The error names the path, what is wrong and what to do (e.g. "chmod 600 PATH").
[[nodiscard]] Result<UniqueFd> open_checked(const std::string& path, Privacy privacy);

/// Opens to read, and to write behind what is there; makes it with mode 0600 if it is missing. Checked the
/// same way.
[[nodiscard]] Result<UniqueFd> open_append_checked(const std::string& path, Privacy privacy);

/// Reads a whole file of at most `limit` bytes.
[[nodiscard]] Result<std::string> read_all(int fd, std::size_t limit, std::string_view path);
/// Both of the above.
[[nodiscard]] Result<std::string> read_checked(const std::string& path, Privacy privacy, std::size_t limit);

/// Opens a trusted file that may be a link of its keeper's (stow, Nix, a ConfigMap): what it leads to is
/// checked.
[[nodiscard]] Result<UniqueFd> open_linked(const std::string& path);
/// The same, and reads it.
[[nodiscard]] Result<std::string> read_linked(const std::string& path, std::size_t limit);

/// The file that a symbolic link leads to; `path` itself if it is none, or if it leads nowhere. Whoever
/// replaces a file replaces that one.
[[nodiscard]] std::string end_of_link(const std::string& path);

/// The names in a folder, in any order; nothing: it is no folder, or cannot be looked into. A folder that
/// others may write to is refused: who may put files there would be trusted.
[[nodiscard]] Result<std::optional<std::vector<std::string>>> list_checked(const std::string& folder);

/// Replaces `path` by a new file with this content and mode: written beside it as PATH.new, fsync'ed,
/// renamed, folder fsync'ed. After an error the old file stands. The caller holds a lock that keeps others
/// from doing the same, so a PATH.new that is there is what a crash left behind, and is removed.
[[nodiscard]] Result<> replace_file(const std::string& path, Bytes content, unsigned mode);
/// Creates `path` (it must not exist), writes, fsyncs file and folder. A file that could not be completed is
/// removed.
[[nodiscard]] Result<> create_file(const std::string& path, Bytes content, unsigned mode);

/// A file in memory with these bytes, which nobody can change any more; for another process. Error: system.
[[nodiscard]] Result<UniqueFd> memory_file(Bytes bytes);
/// All of a memory file of at most `limit` bytes. Error: system.
[[nodiscard]] Result<std::string> read_memory_file(int fd, std::size_t limit);

/// Whose a file is.
struct Owner {
    unsigned uid = 0;
    unsigned gid = 0;
    friend bool operator==(const Owner&, const Owner&) = default;
};

/// An exclusive lock on a file that is made if it is missing and that we never remove.
class FileLock {
  public:
    /// Waits up to `milliseconds` for another holder. What is locked is the file that stands at `path`: if
    /// somebody removes or replaces it in the meantime, the new one is taken. `owner`: to whom root gives a
    /// file that it makes, so that he can lock it too. Error: the lock is held, or the file cannot be opened.
    [[nodiscard]] static Result<FileLock> acquire(const std::string& path, unsigned milliseconds,
                                                  std::optional<Owner> owner = std::nullopt);

  private:
    explicit FileLock(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

/// The folder of a path, "." if it names none.
[[nodiscard]] std::string folder_of(const std::string& path);
[[nodiscard]] Result<> write_all(int fd, Bytes content, std::string_view path);
[[nodiscard]] Result<> sync_folder(const std::string& folder);

}  // namespace curvegate::os
