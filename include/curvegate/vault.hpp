#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/system/error_code.hpp>

#include <expected>
#include <memory>
#include <string>

namespace curvegate {

/// Files by path; the library never opens the key files: the vault process does.
struct VaultFiles {
    std::string server_key;       ///< to accept; empty: none
    std::string client_key;       ///< to connect; empty: none
    std::string known_hosts;      ///< who our peers are; opened by us and by the vault
    std::string state_dir;        ///< of the nonce counters; empty: the folder of each key file
    std::string passphrase_file;  ///< for sealed key files; empty: the vault asks on its terminal
    std::string program;          ///< curvegate-vault; empty: beside the running program
};

/// A handle to a vault process, which holds the long-term secret keys, and what channels share on one
/// io_context: locked memory for short-term secrets, minute keys, the registry. Copies share one vault.
/// Everything made from it must be used from that io_context's one thread.
class Vault {
  public:
    /// Starts curvegate-vault and waits until it is ready (it may ask for a passphrase). Call it early: it
    /// forks. The vault ends with the last copy of this handle. The error says in words what to do.
    [[nodiscard]] static std::expected<Vault, std::string> spawn(boost::asio::io_context& context,
                                                                 const VaultFiles& files);
    /// Connects to a vault that listens on a unix socket (`curvegate-vault --listen PATH`).
    [[nodiscard]] static std::expected<Vault, std::string> connect(boost::asio::io_context& context,
                                                                   const std::string& path,
                                                                   const std::string& known_hosts);

    struct Impl;
    [[nodiscard]] const std::shared_ptr<Impl>& impl() const noexcept { return impl_; }

  private:
    explicit Vault(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
    std::shared_ptr<Impl> impl_;
};

}  // namespace curvegate
