#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <string>
#include <vector>

namespace curvegate::vault_client {

/// How to start curvegate-vault; paths only, no secret ever stands here.
struct VaultOptions {
    std::string program;  ///< empty: beside the running program
    std::string server_key;
    std::string client_key;
    std::string known_hosts;
    std::string state_dir;
    std::string passphrase_file;
    std::string control;  ///< of `curvegate rotate`; empty: none
    bool require_sandbox = true;
    bool require_locked_memory = true;
};

/// A vault of our own: it ends when `lifeline` closes.
struct VaultProcess {
    int pid = -1;
    os::UniqueFd lifeline;
    std::vector<os::UniqueFd> connections;
};

/// Starts the vault with `connections` sockets for requests. It is not ready yet: see vault_answer().
[[nodiscard]] Result<VaultProcess> start_vault(const VaultOptions& options, std::size_t connections);

/// Closes the lifeline, waits a moment for the vault's end, and kills it if it is stopped or stuck.
void end_vault(VaultProcess& process);

/// What the vault says once on its lifeline.
struct VaultAnswer {
    int exit_code = 0;  ///< 0: ready; otherwise a code of base/exit_code.hpp
    std::string why;    ///< for people, if not ready
};
/// Reads it; nothing if it has not been said yet (non-blocking lifeline). A vault that ended without a word
/// is not ready either.
[[nodiscard]] Result<std::optional<VaultAnswer>> vault_answer(int lifeline);

}  // namespace curvegate::vault_client
