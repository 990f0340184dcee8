#include "config/config.hpp"
#include "crypto/secret.hpp"
#include "daemon/parent.hpp"
#include "log/log.hpp"
#include "os/file.hpp"
#include "registry/known_hosts.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <boost/program_options.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

namespace {

using namespace curvegate;  // NOLINT(google-build-using-namespace): a program, not a header

constexpr int kUsage = 64;
constexpr int kNoInput = 66;
constexpr int kUnavailable = 69;
constexpr int kNoPermission = 77;
constexpr int kConfig = 78;
constexpr std::size_t kLargestFile = std::size_t{16} * 1024 * 1024;

[[noreturn]] void give_up(int status, const std::string& why) {
    std::cerr << "curvegated: " << why << '\n';
    std::exit(status);  // NOLINT(concurrency-mt-unsafe): one thread so far
}

[[noreturn]] void give_up(const Problems& problems) {
    for (const Problem& problem : problems) std::cerr << problem.message() << '\n';
    std::exit(kConfig);  // NOLINT(concurrency-mt-unsafe)
}

std::string read_file(const std::string& path) {
    auto text = os::read_checked(path, os::Privacy::trusted, kLargestFile);
    if (!text) give_up(::access(path.c_str(), F_OK) == 0 ? kNoPermission : kNoInput, text.error().text());
    return std::move(*text);
}

std::string default_file() {
    if (::geteuid() == 0) return "/etc/curvegate/curvegate.conf";
    const char* home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
    return std::string(home != nullptr ? home : "") + "/.config/curvegate/curvegate.conf";
}

std::string parse_arguments(int argc, char** argv) {
    namespace options = boost::program_options;
    options::options_description description("curvegated: the curvegate daemon. Options");
    description.add_options()("config,c", options::value<std::string>()->default_value(default_file()),
                              "configuration file")("help,h", "print this")("version,V", "print the version");
    options::variables_map values;
    try {
        options::store(options::parse_command_line(argc, argv, description), values);
    } catch (const options::error& error) {
        give_up(kUsage, std::string(error.what()) + " (see curvegated --help)");
    }
    if (values.contains("help")) {
        std::cout << description;
        std::exit(EXIT_SUCCESS);  // NOLINT(concurrency-mt-unsafe)
    }
    if (values.contains("version")) {
        std::cout << "curvegated " CURVEGATE_VERSION "\n";
        std::exit(EXIT_SUCCESS);  // NOLINT(concurrency-mt-unsafe)
    }
    return values["config"].as<std::string>();
}

std::string read_config(const std::string& file) {
    if (::access(file.c_str(), F_OK) != 0) {
        give_up(kNoInput, file + ": " + std::strerror(errno) + " (name a configuration with -c FILE)");
    }
    // It may be a link of its keeper's (stow, Nix); what it leads to is checked.
    std::error_code error;
    const auto real = std::filesystem::canonical(file, error);
    return read_file(error ? file : real.string());
}

void start_log(const config::Config& config) {
    int descriptor = STDERR_FILENO;
    if (!config.log_file.empty()) {
        descriptor =
            ::open(config.log_file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (descriptor < 0)
            give_up(kConfig, config.file + ": log-file = " + config.log_file + " cannot be opened");
    }
    log::configure(static_cast<log::Level>(config.log_level),
                   config.log_format == config::LogFormat::json ? log::Format::json : log::Format::text,
                   descriptor);
}

// A key that no line names may come as a systemd credential.
void require_key(const config::Config& config, bool needed, const std::string& path,
                 const std::string& name) {
    if (!needed || !path.empty() || !config.vault_socket.empty()) return;
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");  // NOLINT(concurrency-mt-unsafe)
    if (folder != nullptr && ::access((std::string(folder) + "/curvegate." + name).c_str(), F_OK) == 0)
        return;
    give_up(kConfig, config.file + ": " + name +
                         " is missing, and a section needs it (make one with curvegate keygen)");
}

}  // namespace

int main(int argc, char** argv) {
    const std::string file = parse_arguments(argc, argv);
    if (auto ready = crypto::initialise(); !ready) give_up(kUnavailable, ready.error().text());
    auto parsed = config::parse(read_config(file), file);
    if (!parsed) give_up(parsed.error());
    const config::Config& config = parsed->config;
    auto entries = registry::parse_known_hosts(read_file(config.known_hosts), config.known_hosts);
    if (!entries) give_up(entries.error());
    require_key(config, config.needs_server_key(), config.server_key, "server-key");
    require_key(config, config.needs_client_key(), config.client_key, "client-key");
    start_log(config);
    for (const Problem& warning : parsed->warnings) {
        log::event(log::Level::warning, "config", {{"warning", warning.message()}});
    }
    return daemon::run_parent(config, std::make_shared<const registry::Registry>(std::move(*entries)));
}
