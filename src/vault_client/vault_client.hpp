#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"
#include "vault/protocol/protocol.hpp"

#include <boost/asio/generic/seq_packet_protocol.hpp>

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace curvegate::vault_client {

/// Never the peer's fault: the vault is away or late, or we are too busy for it. Response: the handshake that
/// asked ends as handshake::Errc::vault_unavailable, and those after it ask anew.
enum class VaultErrc {
    lost = 1,   ///< no connection to the vault, or it ended before the answer
    too_slow,   ///< no answer in time
    too_many,   ///< kMaxPending requests wait already
    malformed,  ///< a bug: what came is not the protocol. The connection to the vault was closed
};
[[nodiscard]] constexpr std::string_view layer_name(VaultErrc) {
    return "vault client";
}
[[nodiscard]] constexpr std::string_view describe(VaultErrc code) {
    switch (code) {
        case VaultErrc::lost: return "the vault is gone";
        case VaultErrc::too_slow: return "the vault did not answer in time";
        case VaultErrc::too_many: return "too many requests wait for the vault";
        case VaultErrc::malformed: return "the vault sent what is not its protocol";
    }
    return "unknown";
}

/// A worker's connection to the vault: mirrors its verbs. Not thread-safe; lives on one io_context.
class VaultClient {
  public:
    static constexpr std::size_t kMaxPending = 16'384;
    /// Hellos that lie with the vault at once: fewer than it queues, so that it refuses none. The rest wait
    /// here, behind nothing but each other.
    static constexpr std::size_t kMaxHellos = 32;
    using Handler = std::move_only_function<void(Result<vault::ReplyBody>)>;

    /// What becomes of requests while there is no connection.
    enum class Detached {
        wait,  ///< they go out with the next one, if it comes in time: somebody restarts the vault
        fail,  ///< nobody does
    };

    VaultClient(asio::io_context& context, Duration timeout, Detached detached);
    ~VaultClient();

    /// A new connection (the first, or after a vault died). Requests that still wait on the old one get
    /// `lost`.
    void attach(os::UniqueFd fd);
    /// Ends the connection; requests that wait get `lost`, from within.
    void detach() {
        if (socket_.is_open()) lose(VaultErrc::lost);
    }
    [[nodiscard]] bool attached() const noexcept { return socket_.is_open(); }

    /// `handler` is called exactly once, never from within ask().
    void ask(const vault::RequestBody& body, Handler handler);

    /// Requests that have not gone out: never more than those whose askers still wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return prompts_.size() + hellos_.size(); }

    /// More than an eighth of what may wait does: new handshakes are under load (docs/DESIGN.md, Admission).
    [[nodiscard]] bool busy() const noexcept { return pending_.size() > kMaxPending / 8; }

    /// Of the server keys the one under which a Hello is to be tried first.
    [[nodiscard]] vault::KeySlot server_slot() const noexcept { return server_slot_; }
    /// The vault dropped this server key as compromised: sessions that began under it must end.
    std::move_only_function<void(vault::KeySlot dropped)> on_key_dropped;
    /// Called once each time the connection ends.
    std::move_only_function<void(std::string_view why)> on_lost;

  private:
    using Socket = asio::generic::seq_packet_protocol::socket;
    using Queue = std::list<std::uint32_t>;  // ids of requests that have not gone out
    struct Pending {
        Handler handler;
        Instant asked;
        vault::RequestBody body;
        std::optional<Queue::iterator> place;  // in its queue; none: it has gone out
        [[nodiscard]] bool is_hello() const { return std::holds_alternative<vault::AnswerHello>(body); }
    };
    struct Batch;

    void wait_readable();
    void read_all();
    void deliver(Bytes message);
    [[nodiscard]] Queue& queue_of(const Pending& pending) { return pending.is_hello() ? hellos_ : prompts_; }
    [[nodiscard]] Handler take(std::unordered_map<std::uint32_t, Pending>::iterator pending);
    void flush_soon();
    void flush();
    [[nodiscard]] Batch next_batch() const;
    void add(Batch& batch, std::uint32_t id) const;
    void mark_sent(std::uint32_t id);
    void lose(VaultErrc why);
    void start_sweeping();
    void sweep();

    asio::io_context& context_;
    Duration timeout_;
    Detached detached_;
    Socket socket_;
    io::Timer sweeper_;
    std::unordered_map<std::uint32_t, Pending> pending_;
    // A request leaves its queue when it goes out or when its asker gives up, so both are bounded by
    // kMaxPending, and a vault that comes back is asked nothing that nobody waits for.
    Queue prompts_;
    Queue hellos_;
    std::size_t hellos_sent_ = 0;  // and not answered yet
    vault::KeySlot server_slot_ = vault::KeySlot::server;
    std::uint32_t next_id_ = 1;
    // Counts the sockets; shared with every completion, so that those of an old socket, or of a client that
    // is gone, do nothing.
    std::shared_ptr<std::uint64_t> life_ = std::make_shared<std::uint64_t>(0);
    bool writing_ = false;  // flush() has been posted, or waits until the socket takes more
};

}  // namespace curvegate::vault_client
