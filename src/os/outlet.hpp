#pragma once

#include "os/socket.hpp"

#include <string>
#include <string_view>

namespace curvegate::os {

/// Where lines go for which nobody is kept waiting: if the reader does not read, a line is left out. A
/// descriptor that other processes have too (a terminal, the pipe of a service manager) is not made
/// non-blocking for them. SIGPIPE must be ignored. One thread at a time.
class Outlet {
  public:
    /// `descriptor` stays the caller's, and open as long as this lives. To be made before the process is
    /// confined: a pipe or a terminal is opened a second time, by /proc/self/fd.
    explicit Outlet(int descriptor);

    /// Writes a line with its end, without waiting. Returns false if nothing of it was written. What does not
    /// fit of a line that has begun goes before the next one.
    [[nodiscard]] bool write(std::string_view line);

    /// In the child after a fork(): makes anew what the two processes must not share.
    void after_fork();

  private:
    enum class Way {
        write,   ///< a file, or a description of our own, which is non-blocking
        send,    ///< a socket
        splice,  ///< a pipe of another user, or there is no /proc: from a pipe of our own
        poll,    ///< a terminal, likewise: if it takes something now
    };
    [[nodiscard]] bool open_again();
    void open_splice();
    [[nodiscard]] std::size_t put(std::string_view bytes);
    [[nodiscard]] ssize_t put_once(std::string_view bytes);
    [[nodiscard]] ssize_t splice(std::string_view bytes);

    int descriptor_;
    Way way_ = Way::write;
    UniqueFd own_;         // the same file, opened a second time
    UniqueFd splice_in_;   // both ends of the pipe for splice
    UniqueFd splice_out_;  // empty between two calls
    std::string rest_;     // of a line that has begun
};

}  // namespace curvegate::os
