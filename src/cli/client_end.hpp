#pragma once

#include "channel/vault_handle.hpp"
#include "cli/exit.hpp"
#include "config/config.hpp"
#include "tunnel/curvecp/dial.hpp"

#include <expected>
#include <string>
#include <vector>

/// What `probe` and `connect` need to dial a tunnel by themselves, without a daemon.
namespace curvegate::cli {

/// The client section of this name. What is wrong is told: no such section (with the nearest name), or one
/// that is a server end.
[[nodiscard]] Outcome<const config::Service*> find_client_end(const config::Config& config,
                                                              const std::string& name);

/// Why there is no vault: an exit code, and words for people.
struct NoVault {
    int code;
    std::string why;
};
/// The vault that the configuration names, or one of our own with a nonce counter of its own: a running
/// daemon holds the lock of the real one, and a fresh salt makes a second counter for the same key safe. Its
/// folder is gone when this returns; the vault goes on writing to the open file.
[[nodiscard]] std::expected<Vault, NoVault> open_own_vault(asio::io_context& context,
                                                           const config::Parsed& parsed);

/// The peer's keys that known_hosts holds and that are good now, in its order.
[[nodiscard]] std::vector<crypto::PublicKey> pinned_keys(const Vault& vault, const std::string& peer);

/// A target of a curvecp section, as dial_stream() wants it.
[[nodiscard]] tunnel::curvecp::StreamTarget stream_target(const config::Service& service, io::Target address,
                                                          std::string peer,
                                                          std::vector<crypto::PublicKey> keys);

}  // namespace curvegate::cli
