#include "base/exit_code.hpp"
#include "config/config.hpp"
#include "crypto/secret.hpp"
#include "daemon/front/front.hpp"
#include "daemon/parent/load.hpp"
#include "daemon/parent/log_file.hpp"
#include "daemon/parent/parent.hpp"
#include "daemon/parent/signals.hpp"
#include "log/log.hpp"
#include "os/activation.hpp"
#include "os/inherited.hpp"

#include <unistd.h>
#include <boost/program_options.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>

namespace {

using namespace curvegate;  // NOLINT(google-build-using-namespace): a program, not a header

constexpr int kFirstPassed = 3;  // of the descriptors that a service manager passes

[[noreturn]] void give_up(int status, const std::string& why) {
    std::cerr << "curvegated: " << why << '\n';
    std::exit(status);  // NOLINT(concurrency-mt-unsafe): one thread so far
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
        give_up(exit_code::kUsage, std::string(error.what()) + " (see curvegated --help)");
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

void start_log(const config::Config& config) {
    int descriptor = STDERR_FILENO;
    const char* journal = std::getenv("JOURNAL_STREAM");  // NOLINT(concurrency-mt-unsafe)
    auto head = log::Head::time;
    if (!config.log_file.empty()) {
        auto file = daemon::parent::open_log(config.log_file);
        if (!file) give_up(exit_code::kConfig, config.place_of("log-file") + ": " + file.error().text());
        descriptor = file->release();
    } else if (log::is_journal(descriptor, journal)) {
        head = log::Head::priority;
    }
    log::configure(static_cast<log::Level>(config.log_level),
                   config.log_format == config::LogFormat::json ? log::Format::json : log::Format::text, head,
                   descriptor);
}

// A key that no line names may come as a systemd credential.
void require_key(const config::Config& config, const std::string& path, const std::string& name) {
    if (!path.empty() || !config.vault_socket.empty()) return;
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");  // NOLINT(concurrency-mt-unsafe)
    if (folder != nullptr && ::access((std::string(folder) + "/curvegate." + name).c_str(), F_OK) == 0)
        return;
    give_up(exit_code::kConfig, config.file + ": " + name +
                                    " is missing, and a section needs it (make one with curvegate keygen)");
}

int run(int argc, char** argv) {
    if (!os::fill_standard_descriptors()) give_up(exit_code::kSystem, "cannot open /dev/null");
    auto passed = os::take_passed_sockets();  // before anything else takes a descriptor
    os::close_descriptors_from(kFirstPassed + (passed ? static_cast<int>(passed->size()) : 0));
    const std::string file = parse_arguments(argc, argv);
    if (auto ready = crypto::initialise(); !ready) give_up(exit_code::kUnavailable, ready.error().text());
    if (!passed) give_up(exit_code::kUnavailable, passed.error().text());
    auto loaded = daemon::parent::load(file);
    if (!loaded) {
        for (const std::string& line : loaded.error().lines) std::cerr << line << '\n';
        return loaded.error().status;
    }
    const config::Config& config = *loaded->config;
    if (config.needs_server_key()) require_key(config, config.server_key, "server-key");
    if (config.needs_client_key()) require_key(config, config.client_key, "client-key");
    start_log(config);
    for (const Problem& warning : loaded->warnings) {
        log::event(log::Level::warning, "config", {{"warning", warning.message()}});
    }
    return daemon::parent::run(file, std::move(*loaded), daemon::parent::PassedSockets(std::move(*passed)),
                               daemon::front::run);
}

}  // namespace

int main(int argc, char** argv) {
    daemon::parent::hold_signals();
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        give_up(exit_code::kUnavailable, error.what());
    }
}
