#pragma once

#include "base/time.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace curvegate::os {

/// Tells the service manager how the program is (sd_notify(3), the protocol without its library). Where none
/// asked for it, it does nothing.
class Notifier {
  public:
    /// Who asked, by NOTIFY_SOCKET and WATCHDOG_USEC of the environment; both are taken out of it.
    [[nodiscard]] static Notifier from_environment();

    /// Lines as sd_notify takes them: "READY=1\nSTATUS=...". What cannot be delivered is lost.
    void say(std::string_view state) const noexcept;
    /// How often it wants to hear WATCHDOG=1 at least; nothing: it does not.
    [[nodiscard]] std::optional<Duration> watchdog() const noexcept { return watchdog_; }

  private:
    std::string path_;
    std::optional<Duration> watchdog_;
};

}  // namespace curvegate::os
