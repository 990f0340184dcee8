#pragma once

#include <optional>
#include <string>
#include <vector>

namespace curvegate::vault {

enum class Need {
    require,  ///< refuse to start without
    attempt,  ///< "try": say so and go on
};

/// Where a key comes from.
struct KeyPlace {
    std::string path;
    bool credential = false;  ///< in $CREDENTIALS_DIRECTORY
};

/// The command line and the environment of curvegate-vault, checked.
struct Options {
    std::optional<KeyPlace> server_key;
    std::optional<KeyPlace> client_key;
    std::string known_hosts;
    std::string state_dir;  ///< empty: the folder of each key file
    std::string passphrase_file;
    std::string passphrase_credential;
    Need sandbox = Need::require;
    Need lock_memory = Need::require;
    /// Started by the daemon: descriptor 3 leads to it, the next `descriptors` to its workers.
    std::optional<unsigned> descriptors;
    /// Own unit: the path of the socket, and whose processes may connect besides our own and root's.
    std::string listen;
    std::vector<unsigned> allow_uids;
    std::string control;  ///< path of the control socket; empty: no key can be rotated
};

}  // namespace curvegate::vault
