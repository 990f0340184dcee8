#pragma once

#include "base/problem.hpp"
#include "base/result.hpp"
#include "cli/exit.hpp"
#include "config/config.hpp"
#include "vault/key_file.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace curvegate::cli {

/// A long-term key that a configuration uses.
struct KeyUse {
    vault::KeyRole role;
    std::string_view key;         ///< its name in the file: server-key or client-key
    std::string_view credential;  ///< its name among systemd's credentials
    std::string path;             ///< empty: not named, and no such credential
    std::size_t line = 0;         ///< of the key, else of the first section that needs it
    bool is_credential = false;   ///< `path` lies in $CREDENTIALS_DIRECTORY
};
/// Those that the sections need.
[[nodiscard]] std::vector<KeyUse> keys_in_use(const config::Parsed& parsed);

/// Role and public key, as the file says; owner and mode are checked, the secret is not kept.
[[nodiscard]] Result<vault::KeyFileHeader> read_key_header(const KeyUse& use);

/// Where the counter of a key stands.
[[nodiscard]] std::string counter_of(const config::Config& config, const KeyUse& use,
                                     const crypto::PublicKey& key);

/// What a vault would say about a counter at its start, without the lock and without a write.
struct CounterLook {
    std::string problem;   ///< why no vault would start with it; empty: one would
    int status = 0;        ///< with which it would end
    bool damaged = false;  ///< of its two slots one does not read
};
[[nodiscard]] CounterLook look_at_counter(const std::string& path, const crypto::PublicKey& key);

struct KeyProblems {
    Problems problems;
    int status = exit_code::kOk;  ///< with which a daemon would end for them; several kinds: kConfig
};
/// Checks each key file (owner, mode, form, role) and its counter; changes nothing.
[[nodiscard]] KeyProblems check_keys(const config::Parsed& parsed);

}  // namespace curvegate::cli
