#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace curvegate::os {

/// This machine's fault or the user's, never the peer's. Response: who starts or reloads refuses, who runs
/// says so in the log and goes on without.
enum class Errc {
    system = 1,  ///< a system call failed; the detail says which, on what and why
};
[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "system";
}
[[nodiscard]] constexpr std::string_view describe(Errc) {
    return {};  // the detail says all
}
/// "DOING: strerror(errno)" as an Error.
[[nodiscard]] std::unexpected<Error> fail_errno(std::string doing);

/// Owns a file descriptor.
class UniqueFd {
  public:
    UniqueFd() noexcept = default;
    explicit UniqueFd(int fd) noexcept : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }
    ~UniqueFd() { reset(); }
    void reset(int fd = -1) noexcept;
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

  private:
    int fd_ = -1;
};

/// A second descriptor for what `fd` leads to, close-on-exec; an empty one of an empty one. Error: none is
/// left.
[[nodiscard]] Result<UniqueFd> copy_of(const UniqueFd& fd);

/// A connected pair of SOCK_SEQPACKET sockets, close-on-exec.
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> seqpacket_pair();

/// Sends one message, with a descriptor if `fd` is not negative. Interrupted calls are repeated.
[[nodiscard]] Result<> send_message(int socket, Bytes message, int fd = -1);

struct Received {
    std::size_t size = 0;  ///< 0: the other end is closed
    UniqueFd fd;           ///< the descriptor that came along, if one did (close-on-exec)
    bool fd_lost = false;  ///< one came along, and this process had no room for it
};
/// Receives one message; nothing if the socket is non-blocking and empty. A message longer than `into` is an
/// error, never cut. One whose descriptor found no room comes without it: no descriptor left is no end.
[[nodiscard]] Result<std::optional<Received>> receive_message(int socket, MutableBytes into);

/// Room for one message, or one to send.
struct MessageSlot {
    MutableBytes bytes;
    std::size_t size = 0;  ///< of the message, at the beginning of `bytes`; 0: the other end is closed
    bool whole = true;     ///< false: what came was longer than `bytes`
};
inline constexpr std::size_t kMessagesACall = 16;

/// Receives the messages that wait, at most kMessagesACall and one a slot, by one call. Gives how many there
/// were. A descriptor that comes along is closed.
[[nodiscard]] Result<std::size_t> receive_messages(int socket, std::span<MessageSlot> slots);
/// Sends messages in their order, at most kMessagesACall, by one call, without waiting. Gives how many the
/// socket took.
[[nodiscard]] Result<std::size_t> send_messages(int socket, std::span<const MessageSlot> slots);

/// The uid of the process at the other end of a unix socket (SO_PEERCRED).
[[nodiscard]] Result<unsigned> peer_uid(int socket);

}  // namespace curvegate::os
