#pragma once

#include "io/proxy_header.hpp"
#include "serve/sessions.hpp"

#include <map>
#include <unordered_set>

namespace curvegate::serve {

/// The server ends of a worker's services: tunnel in, plain out. It lets clients in, and connects each that
/// may come to the application. One thread.
class ServerEnd {
  public:
    using Specs = std::vector<SpecPtr>;

    explicit ServerEnd(Sessions& sessions) : sessions_(sessions) {}

    /// A client has connected over TCP to that service.
    void accept(SpecPtr spec, io::Stream stream, std::string source, const IpAddress& address);
    /// A client's source has proven itself at a UDP port; `services` are those behind it, as a reload changes
    /// them.
    [[nodiscard]] std::shared_ptr<tunnel::Guest> guest(std::shared_ptr<const Specs> services,
                                                       const Path& from, DoorId door);
    /// Another vault may have other keys in its slots.
    void forget_keys() { server_keys_.clear(); }

  private:
    class Newcomer;

    /// Does the service take the clients' addresses from there?
    [[nodiscard]] bool is_front(guard::ServiceId id, const IpAddress& address) const;
    void accept_proxied(SpecPtr spec, io::Stream stream, std::string front, const IpAddress& address);
    void shake_hands(const SpecPtr& spec, io::Stream stream, std::string source, const IpAddress& address,
                     const std::optional<wire::proxy::Addresses>& addresses = std::nullopt);
    [[nodiscard]] std::optional<std::string> authorise(Connection& connection, const crypto::PublicKey& key,
                                                       const IpAddress& address);
    void refuse(const Connection& connection, const Error& why);
    void let_in(const std::shared_ptr<Connection>& connection);
    void reach_application(const std::shared_ptr<Connection>& connection,
                           std::unique_ptr<tunnel::Tunnel> tunnel);
    void name_server_key(Connection& connection);
    void server_key_is(vault::KeySlot slot, const Result<vault::ReplyBody>& reply);

    Sessions& sessions_;
    io::ProxyHeaders proxy_headers_;
    std::unordered_set<crypto::PublicKey> own_keys_;  // one a rotation; connections point to them
    std::map<vault::KeySlot, const crypto::PublicKey*> server_keys_;  // of this vault; null: asked for
};

}  // namespace curvegate::serve
