#pragma once

#include "base/bytes.hpp"
#include "os/socket.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What the parts of curvegate-load share: the end of a run that went wrong, sockets, epoll, and the bytes
/// that go through a tunnel.
namespace curvegate::load {

using Clock = std::chrono::steady_clock;
using os::UniqueFd;

constexpr std::size_t kPiece = 256 << 10;                  // most bytes of a read or a write
constexpr int kPatience = 60;                              // seconds without any progress: the run has failed
constexpr std::uint64_t kConnectionsAnAddress = 16 << 10;  // a source address has 64 Ki ports, less in use

/// Says why on the standard error and ends the program with 1. Nothing here goes on after an error.
[[noreturn]] void fail(const std::string& why);
/// The same with the text of errno: "WHAT: ...".
[[noreturn]] void fail_errno(const std::string& what);

// ---- sockets ----

/// An IPv4 address in numbers and a port, or the end of the program.
[[nodiscard]] sockaddr_in address_of(std::string_view host, std::string_view port);
/// Non-blocking, on 127.0.0.1; port 0 takes any.
[[nodiscard]] UniqueFd listen_on(std::string_view port);
[[nodiscard]] int port_of(int socket);
/// The next connection, non-blocking and without Nagle's delay; nothing if none waits.
[[nodiscard]] std::optional<UniqueFd> accept_from(int listener);
/// Begins a non-blocking connection without Nagle's delay, which may still be on its way. `number` counts the
/// connections of the program, whose source addresses change with it so that none runs out of ports.
[[nodiscard]] UniqueFd connect_to(const sockaddr_in& to, std::uint64_t number);

/// How many bytes were read or written; or that it would block, or that the connection is broken.
struct Moved {
    enum class How { some, end, blocks, broken } how;
    std::size_t size = 0;
};
[[nodiscard]] Moved receive(int socket, MutableBytes into);
[[nodiscard]] Moved send(int socket, Bytes from);

/// Raises the number of descriptors to what is allowed, and fails if `needed` are not.
void allow_descriptors(std::uint64_t needed);

class Poll {
  public:
    Poll();
    void add(int fd, std::uint32_t events, void* what) const { control(EPOLL_CTL_ADD, fd, events, what); }
    void change(int fd, std::uint32_t events, void* what) const { control(EPOLL_CTL_MOD, fd, events, what); }
    /// What has happened. None within `kPatience` is a failure if `bounded`.
    [[nodiscard]] std::span<const epoll_event> wait(bool bounded);

  private:
    void control(int operation, int fd, std::uint32_t events, void* what) const;
    UniqueFd fd_;
    std::array<epoll_event, 256> events_{};
};

// ---- bytes ----

/// Bytes that depend on their place in a stream, as if random. They repeat after a prime number of bytes, so
/// no record of a tunnel that is lost, doubled or moved leaves them as they were.
class Pattern {
  public:
    enum class Way : std::uint64_t { up = 1, down = 2 };
    explicit Pattern(Way way);
    /// At most `kPiece` bytes of the stream from place `at`.
    [[nodiscard]] Bytes piece(std::uint64_t at, std::uint64_t size) const;
    /// Ends the program if `data` is not what stands at `at`, at most `kPiece` bytes.
    void verify(std::uint64_t at, Bytes data) const;

  private:
    static constexpr std::uint64_t kPeriod = (1 << 20) + 7;
    std::vector<Byte> bytes_;
};

/// Ends the program at the first byte in which they differ; `from` is the place of their first one.
void verify_same(Bytes expected, Bytes data, std::uint64_t from);

/// What a connection begins with, in the order of bytes of this machine. A connection whose first byte is
/// greater than these two has no head: each byte comes back.
enum class Wish : Byte {
    stream =
        0,     // `first` bytes go up and `second` down, then the count of those that came up; then a new head
    echo = 1,  // messages of `first` bytes, each comes back when it is there as a whole
};
struct Head {
    Wish wish = Wish::stream;
    std::array<Byte, 7> zeros{};
    std::uint64_t first = 0;
    std::uint64_t second = 0;
};
static_assert(sizeof(Head) == 24);

// ---- the sub-commands ----

void serve(std::string_view port);
/// `flip`: the byte of each connection that it spoils on the way to `target`, to see that this is noticed.
void relay(std::string_view port, const sockaddr_in& target, std::optional<std::uint64_t> flip);
void stream(const sockaddr_in& to, std::uint64_t up, std::uint64_t down);
void requests(const sockaddr_in& to, std::uint64_t connections, std::uint64_t size, double seconds);
void connects(const sockaddr_in& to, std::uint64_t count, std::uint64_t together);
void hold(const sockaddr_in& to, std::uint64_t count);

}  // namespace curvegate::load
