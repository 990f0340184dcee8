#pragma once

#include "os/file.hpp"

#include <optional>
#include <string>

namespace curvegate::os {

/// A text file under edit: locked (by PATH.lock) as long as this lives, replaced as a whole, its mode and
/// owner kept.
class LockedFile {
  public:
    /// Waits up to five seconds for another editor, who takes much less. A file that would not be read is
    /// refused before a lock is made for it; a lock that root makes belongs to the file's owner, and root
    /// makes nothing in the folder of another user. Error: system.
    [[nodiscard]] static Result<LockedFile> lock(const std::string& path);
    /// The text, of at most `limit` bytes; nothing: there is no such file, and replace() will make it. It
    /// must be nobody else's to write. Error: system.
    [[nodiscard]] Result<std::optional<std::string>> read(std::size_t limit);
    /// After read(). After an error the old file stands, unless only its owner could not be kept. Error:
    /// system.
    [[nodiscard]] Result<> replace(std::string_view text) const;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    LockedFile(std::string path, FileLock lock) noexcept : path_(std::move(path)), lock_(std::move(lock)) {}

    std::string path_;
    FileLock lock_;
    unsigned mode_ = 0600;
    std::optional<Owner> owner_;  // of the file that was there
};

}  // namespace curvegate::os
