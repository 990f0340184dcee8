#pragma once

#include "base/result.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace curvegate::cli {

/// Standard input and output in other places. Programs that are started from here do not get them.
struct StandardFds {
    os::UniqueFd in;
    os::UniqueFd out;
};
/// Takes both away and puts /dev/null where they were, so that nobody else holds them open: an end is one
/// only when the last has closed. One that the program was started without is /dev/null. Error: os system.
[[nodiscard]] Result<StandardFds> take_standard_descriptors();

/// Joins standard input and output, whatever they are (pipes, terminals, sockets, files, which epoll
/// refuses), to a socket: two threads that copy and may block. The end of standard input becomes the end of
/// the socket's one direction, the end of its other one that of standard output.
class Stdio {
  public:
    /// Is called with nullopt at a good end, and otherwise with the reason why standard input or output
    /// failed.
    using EndedFn = std::function<void(std::optional<std::string>)>;

    /// Both run on `context`. `on_failed`: standard input cannot be read. `on_written`: standard output has
    /// all that there was and is closed, or takes no more.
    Stdio(asio::io_context& context, StandardFds fds, EndedFn on_failed, EndedFn on_written);
    /// Does not wait for the threads: one may wait for a terminal for ever. What they still say goes nowhere.
    ~Stdio();
    Stdio(const Stdio&) = delete;
    Stdio& operator=(const Stdio&) = delete;

    /// Starts both threads on one end of a new pair of sockets, and gives the other. Error: os system.
    [[nodiscard]] Result<os::UniqueFd> start();

  private:
    struct Shared;
    std::shared_ptr<Shared> shared_;
};

}  // namespace curvegate::cli
