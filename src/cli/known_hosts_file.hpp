#pragma once

#include "cli/exit.hpp"
#include "os/locked_file.hpp"
#include "registry/known_hosts.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace curvegate::cli {

/// A known_hosts file under edit: locked from open to the end of its life, replaced as a whole, its mode and
/// owner kept.
class KnownHostsFile {
  public:
    /// Locks and reads; a file that is missing is empty. What is wrong with it is told, and it is not edited.
    [[nodiscard]] static Outcome<KnownHostsFile> open(const std::string& path);

    [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    [[nodiscard]] const std::vector<registry::Entry>& entries() const noexcept { return entries_; }
    /// Replaces the file. The exit code; a failure is told, and the old file stands.
    [[nodiscard]] int replace(std::string_view text) const;

  private:
    explicit KnownHostsFile(os::LockedFile file) noexcept : file_(std::move(file)) {}
    [[nodiscard]] Outcome<> read();

    os::LockedFile file_;
    std::string text_;
    std::vector<registry::Entry> entries_;
};

/// Reads and parses without a lock, for showing: whoever may read the file, and whoever owns it. What is
/// wrong is told.
[[nodiscard]] Outcome<std::vector<registry::Entry>> read_known_hosts(const std::string& path);

}  // namespace curvegate::cli
