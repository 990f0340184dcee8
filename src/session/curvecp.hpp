#pragma once

#include "base/bytes.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "crypto/message_box.hpp"
#include "crypto/nonce.hpp"
#include "crypto/secret.hpp"
#include "session/errors.hpp"
#include "session/role.hpp"
#include "session/window.hpp"
#include "wire/curvecp.hpp"

namespace curvegate::session::curvecp {

/// Where a line of numbers begins: anywhere below 2^48, at random (PROTOCOL 7.2). Takes 6 bytes of `random`.
[[nodiscard]] crypto::PacketNumber first_number(RandomSource& random);

/// What a client sends again in every Initiate, until the server has answered one.
struct Introduction {
    wire::Cookie cookie;
    wire::VouchBody vouch;
    wire::curvecp::ServerName name;
};

struct Opened {
    MutableBytes message;  ///< lies inside the packet
    bool newest;           ///< higher than all numbers before: the packet may move the path
};

/// A connected session of CurveCP (PROTOCOL 7.6): the keys, our counter, the numbers that came. Seals
/// and opens packets in place and allocates nothing.
class Session {
  public:
    /// `counter` gives our numbers: a client goes on from its Hello's, a server begins with first_number().
    /// Errors: secrets_full, memory_not_locked.
    [[nodiscard]] static Result<Session> create(Role own, crypto::SharedKey key,
                                                const wire::curvecp::Extensions& extensions,
                                                const wire::curvecp::ClientShort& client_short,
                                                crypto::SendCounter&& counter);

    /// Bytes of a Message packet before its message.
    [[nodiscard]] std::size_t overhead() const noexcept {
        return own_ == Role::client ? wire::curvecp::kClientOverhead : wire::curvecp::kServerOverhead;
    }
    /// `packet` is overhead() bytes to be filled, then the message. Error: numbers_exhausted.
    [[nodiscard]] Result<> seal_message(MutableBytes packet);
    /// Client: the same with wire::curvecp::kInitiateOverhead bytes before the message. Error:
    /// numbers_exhausted.
    [[nodiscard]] Result<> seal_initiate(const Introduction& introduction, MutableBytes packet);

    /// A Message of the peer, header parsed. On an error (wrong_number: repeated or too old;
    /// box_does_not_open) nothing changes: drop the packet.
    [[nodiscard]] Result<Opened> open_message(crypto::PacketNumber number, MutableBytes packet);
    /// Server: an Initiate of a client that is connected already: its message counts, the rest is not looked
    /// at.
    [[nodiscard]] Result<Opened> open_initiate(crypto::PacketNumber number, MutableBytes packet);
    /// Server: the number of the Initiate that made this session.
    void mark_received(crypto::PacketNumber number) noexcept { window_.mark(number); }

    /// No number is left in one direction: the connection ends.
    [[nodiscard]] bool exhausted() const noexcept { return counter_.exhausted() || window_.exhausted(); }
    [[nodiscard]] const wire::curvecp::Extensions& extensions() const noexcept { return extensions_; }
    [[nodiscard]] const wire::curvecp::ClientShort& client_short() const noexcept { return client_short_; }
    /// A server answers to the extension that its client showed last.
    void set_client_extension(const wire::curvecp::HostExtension& extension) noexcept {
        extensions_.client = extension;
    }

  private:
    Session(Role own, crypto::SharedKey key, crypto::SealKey send_key, crypto::OpenKey receive_key,
            const wire::curvecp::Extensions& extensions, const wire::curvecp::ClientShort& client_short,
            crypto::SendCounter&& counter) noexcept;
    [[nodiscard]] Opened received(crypto::PacketNumber number, MutableBytes message) noexcept;

    crypto::SharedKey key_;  // for Initiates
    crypto::SealKey send_key_;
    crypto::OpenKey receive_key_;
    crypto::SendCounter counter_;
    wire::curvecp::Extensions extensions_;
    wire::curvecp::ClientShort client_short_;
    ReceiveWindow window_;
    Role own_;
};

}  // namespace curvegate::session::curvecp
