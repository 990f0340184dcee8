#include "channel/vault_handle.hpp"

#include "io/clock.hpp"
#include "io/system_resolver.hpp"
#include "os/connect_unix.hpp"
#include "os/file.hpp"
#include "os/secret_pages.hpp"
#include "wires/wires.hpp"

#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>
#include <optional>

namespace curvegate {
namespace {

/// Holds memory until the io_context has dropped what was in its queue: services go after that.
class MemoryService final : public boost::asio::execution_context::service {
  public:
    static inline boost::asio::execution_context::id id;
    explicit MemoryService(boost::asio::execution_context& owner) : service(owner) {}
    void hold(std::shared_ptr<TunnelMemory> memory) { held_.push_back(std::move(memory)); }

  private:
    void shutdown() override {}
    std::vector<std::shared_ptr<TunnelMemory>> held_;
};

constexpr std::size_t kMaxSecrets = 262'144;
constexpr std::size_t kLargestKnownHosts = std::size_t{16} * 1024 * 1024;
constexpr std::chrono::seconds kConnectPatience{5};
constexpr Duration kVaultTimeout = std::chrono::seconds(5);

std::string words(const Problems& problems) {
    std::string out;
    for (const Problem& problem : problems) out += (out.empty() ? "" : "\n") + problem.message();
    return out;
}

std::expected<registry::Registry, std::string> read_registry(const std::string& path) {
    const auto text = os::read_linked(path, kLargestKnownHosts);
    if (!text) return std::unexpected(text.error().text());
    auto entries = registry::parse_known_hosts(*text, path);
    if (!entries) return std::unexpected(words(entries.error()));
    return registry::Registry(std::move(*entries));
}

std::expected<std::shared_ptr<Vault::Impl>, std::string> make(boost::asio::io_context& context,
                                                              const std::string& known_hosts) {
    if (auto ready = crypto::initialise(); !ready) return std::unexpected(ready.error().text());
    auto who = read_registry(known_hosts);
    if (!who) return std::unexpected(std::move(who.error()));
    auto pool = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::require, kMaxSecrets);
    if (!pool) return std::unexpected(pool.error().text());
    os::SystemRandom random;
    auto keeper = cookie::Keeper::create(**pool, random, io::now());
    if (!keeper) return std::unexpected(keeper.error().text());
    return std::make_shared<Vault::Impl>(context, std::move(*pool), std::move(*keeper), std::move(*who));
}

}  // namespace

Vault::Impl::Impl(boost::asio::io_context& on, std::unique_ptr<crypto::SecretPool> secrets,
                  cookie::Keeper minute_keys, registry::Registry who)
    : context(on),
      memory(std::make_shared<TunnelMemory>(std::move(secrets))),
      keeper(std::move(minute_keys)),
      client(on, kVaultTimeout, vault_client::VaultClient::Detached::fail),
      registry(std::move(who)),
      resolver(io::make_system_resolver()),
      cookie_timer(on) {
    boost::asio::use_service<MemoryService>(context).hold(memory);
    cycle_cookie_keys();
}

Vault::Impl::~Impl() {
    *alive = false;
    vault_client::end_vault(process);
}

tunnel::Opener& Vault::Impl::opener_of(Wire wire) {
    auto& opener = openers[wire];
    if (!opener) opener = wires::of(wire).make_opener(lent());
    return *opener;
}

void Vault::Impl::cycle_cookie_keys() {
    cookie_timer.expires_at(keeper.next_deadline());
    cookie_timer.async_wait([this, life = alive](error_code error) {
        if (error || !*life) return;
        (void)keeper.advance(io::now(), random);  // issue() tries again and tells
        cycle_cookie_keys();
    });
}

std::expected<Vault, std::string> Vault::spawn(boost::asio::io_context& context, const VaultFiles& files) {
    auto impl = make(context, files.known_hosts);
    if (!impl) return std::unexpected(std::move(impl.error()));
    vault_client::VaultOptions options;
    options.program = files.program;
    options.server_key = files.server_key;
    options.client_key = files.client_key;
    options.known_hosts = files.known_hosts;
    options.state_dir = files.state_dir;
    options.passphrase_file = files.passphrase_file;
    auto process = vault_client::start_vault(options, 1);
    if (!process) return std::unexpected(process.error().text());
    (*impl)->process = std::move(*process);
    const auto answer =
        vault_client::vault_answer((*impl)->process.lifeline.get());  // blocks until it is ready or gone
    if (!answer) return std::unexpected(answer.error().text());
    if ((*answer)->exit_code != 0) return std::unexpected((*answer)->why);
    (*impl)->client.attach(std::move((*impl)->process.connections.front()));
    return Vault(std::move(*impl));
}

std::expected<Vault, std::string> Vault::connect(boost::asio::io_context& context, const std::string& path,
                                                 const std::string& known_hosts) {
    auto impl = make(context, known_hosts);
    if (!impl) return std::unexpected(std::move(impl.error()));
    auto fd = os::connect_unix(path, SOCK_SEQPACKET, kConnectPatience);
    if (!fd) return std::unexpected("connect to the vault at " + path + ": " + std::strerror(fd.error()));
    (*impl)->client.attach(std::move(*fd));
    return Vault(std::move(*impl));
}

}  // namespace curvegate
