#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "guard/good_addresses.hpp"
#include "io/asio.hpp"
#include "io/cancellation.hpp"
#include "io/dial_error.hpp"

#include <boost/asio/post.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace curvegate::io {

/// Where to connect: a TCP host (literal or name) and port, or a unix socket.
struct Target {
    enum class UnixSocket { stream, seqpacket };
    std::string host;
    std::uint16_t port = 0;
    std::string unix_path;  ///< if not empty, this and nothing else
    UnixSocket unix_kind = UnixSocket::stream;
    [[nodiscard]] std::string text() const;
};

/// Turns names into addresses, off the event loop. Use find_addresses(), which needs nobody for literals.
class Resolver {
  public:
    using Handler = std::move_only_function<void(Result<std::vector<ScopedIp>>)>;
    virtual ~Resolver() = default;
    /// `handler` runs on `context`, once, never from within, with at least one address or an error:
    /// name_unknown, name_unanswered, names_busy, own_lack.
    virtual void resolve(asio::io_context& context, const std::string& host, Handler handler) = 0;
    /// What connections learnt of the addresses; it may outlive this.
    [[nodiscard]] const std::shared_ptr<guard::GoodAddresses>& good() const noexcept { return good_; }

  private:
    std::shared_ptr<guard::GoodAddresses> good_ = std::make_shared<guard::GoodAddresses>();
};

/// How long an address may be silent before the next one is tried beside it (RFC 8305, 5).
inline constexpr Duration kStagger = std::chrono::milliseconds(250);

/// Resolves and connects until `deadline`. Addresses of a name are tried in their order, the next one when
/// the last has failed or has been silent for kStagger; the first that connects is taken, and is where the
/// next dial begins. A unix socket whose queue is full is asked again. `done` is called once, never from
/// within. Cancelled, it closes what it has opened, and tells `done` soon.
/// Errors: refused, timeout, own_lack, stopped, and those of find_addresses().
using DialedFn = std::move_only_function<void(Result<Stream>)>;
void dial(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
          DialedFn done, const CancellationPtr& cancellation = nullptr);
/// A connection, and which of several addresses of its target took it; none if there was no choice.
struct Connected {
    Stream stream;
    std::optional<ScopedIp> chosen;
};
/// The same for who has more to ask of an address before it counts as good, and says so itself
/// (GoodAddresses::answered).
using ConnectedFn = std::move_only_function<void(Result<Connected>)>;
void connect_to(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
                ConnectedFn done, const CancellationPtr& cancellation = nullptr);
/// Tells the `done` of a dial that was cancelled, once, not from within; then it is empty.
template <class Done>
void tell_stopped(asio::io_context& context, Done& done) {
    asio::post(context, [told = std::exchange(done, nullptr)]() mutable {
        told(std::unexpected(Error(DialErrc::stopped)));
    });
}

}  // namespace curvegate::io
