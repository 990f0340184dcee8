#include "vault_client/vault_process.hpp"

#include "base/exit_code.hpp"
#include "base/time.hpp"
#include "os/spawn.hpp"

#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <thread>
#include <utility>

namespace curvegate::vault_client {
namespace {

constexpr std::size_t kLongestAnswer = 4'096;
constexpr Duration kLastWait = std::chrono::milliseconds(500);
constexpr Duration kWaitStep = std::chrono::milliseconds(5);

void add(std::vector<std::string>& arguments, const char* option, const std::string& value) {
    if (value.empty()) return;
    arguments.emplace_back(option);
    arguments.push_back(value);
}

}  // namespace

Result<VaultProcess> start_vault(const VaultOptions& options, std::size_t connections) {
    VaultProcess out;
    os::SpawnRequest request;
    request.program = options.program.empty() ? os::sibling_program("curvegate-vault") : options.program;
    auto& arguments = request.arguments;
    add(arguments, "--server-key", options.server_key);
    add(arguments, "--client-key", options.client_key);
    add(arguments, "--known-hosts", options.known_hosts);
    add(arguments, "--state-dir", options.state_dir);
    add(arguments, "--passphrase-file", options.passphrase_file);
    add(arguments, "--control", options.control);
    add(arguments, "--sandbox", options.require_sandbox ? "require" : "try");
    add(arguments, "--lock-memory", options.require_locked_memory ? "require" : "try");
    add(arguments, "--descriptors", std::to_string(connections));
    // Where systemd put credentials is a path, not a secret; nothing else of the environment goes along.
    if (const char* credentials = std::getenv("CREDENTIALS_DIRECTORY")) {  // NOLINT(concurrency-mt-unsafe)
        request.environment.push_back(std::string("CREDENTIALS_DIRECTORY=") + credentials);
    }
    std::vector<os::UniqueFd> theirs;
    for (std::size_t i = 0; i <= connections; ++i) {
        auto pair = os::seqpacket_pair();
        if (!pair) return fail(std::move(pair));
        request.descriptors.push_back(pair->second.get());
        theirs.push_back(std::move(pair->second));
        if (i == 0) {
            out.lifeline = std::move(pair->first);
        } else {
            out.connections.push_back(std::move(pair->first));
        }
    }
    auto pid = os::spawn(request);
    if (!pid) return fail(std::move(pid));
    out.pid = *pid;
    return out;
}

void end_vault(VaultProcess& process) {
    process.lifeline.reset();
    const int pid = std::exchange(process.pid, -1);
    if (pid <= 0) return;
    for (Duration waited{}; waited < kLastWait; waited += kWaitStep) {
        if (::waitpid(pid, nullptr, WNOHANG) != 0) return;
        std::this_thread::sleep_for(kWaitStep);
    }
    ::kill(pid, SIGKILL);
    (void)::waitpid(pid, nullptr, 0);
}

Result<std::optional<VaultAnswer>> vault_answer(int lifeline) {
    std::vector<Byte> message(kLongestAnswer);
    auto received = os::receive_message(lifeline, message);
    if (!received) return fail(std::move(received));
    if (!*received) return std::nullopt;
    if ((*received)->size == 0) {
        return VaultAnswer{exit_code::kUnavailable, "curvegate-vault ended before it was ready"};
    }
    return VaultAnswer{message.front(),
                       std::string(as_text(Bytes(message).subspan(1, (*received)->size - 1)))};
}

}  // namespace curvegate::vault_client
