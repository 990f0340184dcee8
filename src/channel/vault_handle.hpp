#pragma once

#include "cookie/keeper.hpp"
#include "curvegate/vault.hpp"
#include "io/chunk_pool.hpp"
#include "io/dial.hpp"
#include "os/random.hpp"
#include "registry/registry.hpp"
#include "tunnel/wire.hpp"
#include "vault_client/vault_client.hpp"
#include "vault_client/vault_process.hpp"

#include <map>

namespace curvegate {

/// Memory of tunnels. A tunnel may outlive its vault: the io_context's queue can hold the last reference to
/// one, and it gives its secrets and chunks back as it goes. So the io_context keeps this until its queue is
/// empty.
struct TunnelMemory {
    std::unique_ptr<crypto::SecretPool> secrets;
    io::ChunkPool chunks;
};

/// What the channels of one io_context share.
struct Vault::Impl : std::enable_shared_from_this<Vault::Impl> {
    Impl(boost::asio::io_context& on, std::unique_ptr<crypto::SecretPool> secrets, cookie::Keeper minute_keys,
         registry::Registry who);
    ~Impl();
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    [[nodiscard]] tunnel::HandshakeTools tools() {
        return {&client, &keeper, memory->secrets.get(), &random, &memory->chunks, {}};
    }
    /// What its tunnels borrow; `scratch` is of those that carry bytes.
    [[nodiscard]] tunnel::Environment lent(tunnel::Scratch* scratch = nullptr) {
        return {&context, resolver.get(), tools(), scratch, {}, {}};
    }
    [[nodiscard]] tunnel::Opener& opener_of(Wire wire);
    void cycle_cookie_keys();

    boost::asio::io_context& context;
    std::shared_ptr<TunnelMemory> memory;  // before everything that may hold a secret or a stream
    os::SystemRandom random;
    cookie::Keeper keeper;
    vault_client::VaultClient client;
    registry::Registry registry;
    std::unique_ptr<io::Resolver> resolver;
    std::map<Wire, std::unique_ptr<tunnel::Opener>> openers;  // of the wires that were used
    io::Timer cookie_timer;
    vault_client::VaultProcess process;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

}  // namespace curvegate
