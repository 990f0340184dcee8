#pragma once

#include "handshake/events.hpp"

/// What machines of several wires do alike, between one packet and the next. Numbers of packets that came are
/// as their wire writes them, so that their byte order is the wire's.
namespace curvegate::handshake {

using NumberBytes = FixedBytes<wire::kNumberSize>;

// ---- client ----

/// The box of a hello (PROTOCOL 4.3, 7.1). `with_server` is DH(ECs, S); `form` writes the number as on the
/// wire.
[[nodiscard]] wire::HelloBox seal_hello(const crypto::SharedKey& with_server, crypto::FreshNumber number,
                                        crypto::NumberForm form);
/// Opens a cookie packet's box (PROTOCOL 4.4, 7.3). Errors: cookie_does_not_open, crypto weak_key.
[[nodiscard]] Result<wire::CookieBody> open_cookie(const crypto::SharedKey& with_server,
                                                   const crypto::LongTermNonce& nonce,
                                                   const wire::CookieBox& box);
/// The question to the vault once a cookie is there (PROTOCOL 6.3).
[[nodiscard]] vault::MakeVouch ask_for_vouch(const crypto::PublicKey& server,
                                             const crypto::PublicKey& client_short) noexcept;
/// What the client says about itself, from the vault's answer. Error: crypto weak_key.
[[nodiscard]] Result<wire::VouchBody> introduce(const vault::Vouch& made);

// ---- server ----

/// Which of the server's keys a hello is for (PROTOCOL 4.4): a guess, and then, once, what the vault says.
class HelloSlot {
  public:
    /// `guess`: the one to try first.
    explicit HelloSlot(vault::KeySlot guess) noexcept : slot_(guess) {}

    [[nodiscard]] vault::KeySlot get() const noexcept { return slot_; }
    /// The vault says that it is `told`. The cookie is bound to the slot, so there must be another one, with
    /// a key pair of its own. Error: hello_refused, if the vault has said so before or it was asked for that.
    [[nodiscard]] Result<> turn_to(vault::KeySlot told);

  private:
    vault::KeySlot slot_;
    bool told_ = false;
};

/// The question to the vault once a hello has its cookie (PROTOCOL 6.3).
[[nodiscard]] vault::AnswerHello ask_for_answer(vault::KeySlot slot, const crypto::PublicKey& client_short,
                                                NumberBytes number, const wire::HelloBox& box,
                                                const event::CookieIssued& issued);
/// The question to the vault once a client has introduced itself (PROTOCOL 6.3).
[[nodiscard]] vault::OpenVouch ask_to_open(vault::KeySlot slot, const wire::VouchBody& body,
                                           const crypto::PublicKey& client_short) noexcept;

}  // namespace curvegate::handshake
