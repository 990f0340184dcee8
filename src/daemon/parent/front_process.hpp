#pragma once

#include "base/time.hpp"
#include "daemon/channel.hpp"
#include "os/socket.hpp"

#include <optional>

namespace curvegate::daemon::parent {

/// The front as the parent sees it: a process, and the channel to it.
class FrontProcess {
  public:
    void started(int pid, os::UniqueFd channel);
    [[nodiscard]] bool runs() const noexcept { return pid_ > 0; }
    [[nodiscard]] bool is(int pid) const noexcept { return pid == pid_; }
    [[nodiscard]] bool hears() const noexcept { return static_cast<bool>(channel_); }
    [[nodiscard]] int channel() const noexcept { return channel_.get(); }  ///< to poll; -1: none
    void close_channel() noexcept { channel_.reset(); }
    void ended() noexcept;  ///< it has been waited for

    /// Sends a message, with a descriptor if `fd` is not negative. A front that takes none for 5 s hangs, and
    /// is killed: another one takes its place. Returns false if it was not sent.
    bool send(const ToFront& message, int fd = -1);
    void kill() const noexcept;

    /// It has been told to end, and is killed if it has not at that time.
    void end_by(Instant deadline) noexcept { end_by_ = deadline; }
    [[nodiscard]] std::optional<Instant> next_deadline() const noexcept { return end_by_; }
    void tend(Instant now);

  private:
    int pid_ = -1;
    os::UniqueFd channel_;
    std::optional<Instant> end_by_;
};

}  // namespace curvegate::daemon::parent
