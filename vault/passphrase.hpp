#pragma once

#include "base/result.hpp"
#include "vault/key_file.hpp"

#include <optional>
#include <string>

namespace curvegate::vault {

/// Where the passphrase of sealed key files comes from, in this order: `file` (mode 0600, its first line),
/// the systemd credential, the terminal.
struct PassphraseSources {
    std::string file;        ///< empty: none
    std::string credential;  ///< path of curvegate.passphrase; empty: none
    int give_up = -1;        ///< asking at the terminal ends when this descriptor becomes readable
};

/// Asks them. Made for start-up, before the process is confined.
class Passphrases {
  public:
    explicit Passphrases(PassphraseSources sources) : sources_(std::move(sources)) {}

    /// As AskPassphrase wants it. `what` is shown at the terminal.
    [[nodiscard]] std::optional<std::size_t> ask(const std::string& what, MutableBytes out);
    /// Why the last ask() gave nothing, or empty if no source was there at all.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
    /// The last passphrase was typed, so that a wrong one may be asked for again.
    [[nodiscard]] bool typed() const noexcept { return typed_; }

  private:
    PassphraseSources sources_;
    std::string problem_;
    bool typed_ = false;
};

}  // namespace curvegate::vault
