#pragma once

#include "crypto/keys.hpp"
#include "io/proxy_header.hpp"
#include "tunnel/byte_tunnel.hpp"
#include "tunnel/datagram_pipe.hpp"
#include "tunnel/message_pipe.hpp"
#include "vault/protocol/protocol.hpp"

#include <functional>
#include <memory>
#include <optional>

namespace curvegate::tunnel {

/// What is left of a tunnel when its user has let go of it: a wire that delivers the last bytes itself goes
/// on until the peer has them.
class Remains {
  public:
    virtual ~Remains() = default;
    /// Ends now, before or after the user lets go: the peer gets no further word and no further answer.
    virtual void drop() = 0;
    /// Has it ended? It is gone soon after.
    [[nodiscard]] virtual bool has_ended() const = 0;
    /// Has the user's side said that nothing more comes?
    [[nodiscard]] virtual bool end_is_told() const = 0;
    /// Does the peer lack bytes of the user's?
    [[nodiscard]] virtual bool owes_bytes() const = 0;
};

/// A tunnel that stands, whatever its wire. Who holds it chooses once what it carries, by one of bytes(),
/// messages() and datagrams(); after that this may go. Destroying a tunnel that nobody chose for ends it. One
/// thread.
class Tunnel {
  public:
    virtual ~Tunnel() = default;

    [[nodiscard]] virtual std::unique_ptr<ByteTunnel> bytes() = 0;
    [[nodiscard]] virtual std::unique_ptr<MessagePipe> messages() = 0;
    /// A wire that can lose a datagram has its own; the others carry each as a message.
    [[nodiscard]] virtual std::unique_ptr<DatagramPipe> datagrams();

    /// Call it first, and once. `keep` lives as long as the tunnel has memory, which may be longer than its
    /// user has it; `delivered` is called once after the user has let go, when nothing is owed to the peer
    /// any more or the peer was given up. Where the kernel delivers, this gives an empty pointer, drops
    /// `keep`, and never calls.
    [[nodiscard]] virtual std::weak_ptr<Remains> outlive(std::shared_ptr<const void> keep,
                                                         std::function<void()> delivered) = 0;

    /// Server end: the client's address and the one that it called, if the tunnel is a connection of the
    /// kernel's, which is asked. nullopt: the endpoint knows them, or the connection is gone.
    [[nodiscard]] virtual std::optional<wire::proxy::Addresses> addresses() const { return std::nullopt; }

    /// The key that the peer has proven.
    [[nodiscard]] const crypto::PublicKey& peer() const noexcept { return peer_; }
    /// Server end: of our keys the one that the client knows.
    [[nodiscard]] vault::KeySlot server_key() const noexcept { return server_key_; }

  protected:
    Tunnel(const crypto::PublicKey& peer, vault::KeySlot server_key) : peer_(peer), server_key_(server_key) {}

  private:
    crypto::PublicKey peer_;
    vault::KeySlot server_key_;
};

}  // namespace curvegate::tunnel
