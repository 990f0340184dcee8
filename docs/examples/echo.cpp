// An echo server and a client that checks it, in one program: the library's API at work.
//
//   curvegate-echo --listen HOST:PORT --key FILE --known-hosts FILE
//   curvegate-echo --connect HOST:PORT --peer NAME --key FILE --known-hosts FILE --sizes 0,1,1000,65503
//
// With --wire curvecp both speak CurveCP instead of curve_tun.

#include "curvegate/channel.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/program_options.hpp>

#include <charconv>
#include <cstdlib>
#include <iostream>

namespace {

namespace asio = boost::asio;
namespace options = boost::program_options;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr int kUsage = 64;
constexpr auto kPatience = std::chrono::seconds(30);
const std::string kService = "echo";  // over UDP one port may carry many

[[noreturn]] void give_up(int status, const std::string& why) {
    std::cerr << "curvegate-echo: " << why << '\n';
    std::exit(status);  // NOLINT(concurrency-mt-unsafe): one thread
}

struct HostPort {
    std::string host;
    std::uint16_t port = 0;
};

HostPort parse_host_port(const std::string& text) {
    HostPort out;
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) give_up(kUsage, text + " is not HOST:PORT");
    out.host = text.substr(0, colon);
    if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') {
        out.host = out.host.substr(1, out.host.size() - 2);
    }
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, out.port);
    if (error != std::errc{} || rest != end) give_up(kUsage, text + " has no port number");
    return out;
}

std::vector<std::size_t> parse_sizes(const std::string& text) {
    std::vector<std::size_t> out;
    const char* at = text.data();
    const char* end = at + text.size();
    while (true) {
        std::size_t size = 0;
        const auto [rest, error] = std::from_chars(at, end, size);
        if (error != std::errc{} || size > curvegate::kMaxMessageSize)
            give_up(kUsage, "--sizes takes 0..65503,...");
        out.push_back(size);
        if (rest == end) return out;
        if (*rest != ',') give_up(kUsage, "--sizes takes 0..65503,...");
        at = rest + 1;
    }
}

// ---- server ----

asio::awaitable<void> echo(curvegate::Channel channel) {
    while (true) {
        auto [error, message] = co_await channel.async_receive(kAwait);
        if (error) co_return;
        if (const auto [failed] = co_await channel.async_send(message, kAwait); failed) co_return;
    }
}

asio::awaitable<void> serve(asio::io_context& context, curvegate::Listener listener) {
    while (true) {
        auto [error, channel] = co_await listener.async_accept(kAwait);
        if (error) co_return;
        asio::co_spawn(context, echo(std::move(channel)), asio::detached);
    }
}

// ---- client ----

curvegate::Message pattern(std::size_t size) {
    curvegate::Message out(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::uint8_t>((31 * i + size) % 251);
    return out;
}

asio::awaitable<int> check(
    const curvegate::Vault& vault, const curvegate::ConnectOptions& to,
    std::vector<std::size_t> sizes) {  // by value: a coroutine outlives its caller's temporaries
    auto [error, channel] = co_await curvegate::async_connect(vault, to, kAwait);
    if (error) {
        std::cerr << "connect: " << error.message() << '\n';
        co_return EXIT_FAILURE;
    }
    for (const std::size_t size : sizes) {
        const auto sent = pattern(size);
        if (const auto [failed] = co_await channel.async_send(sent, kAwait); failed) {
            std::cerr << "send: " << failed.message() << '\n';
            co_return EXIT_FAILURE;
        }
        auto [lost, received] = co_await channel.async_receive(kPatience, kAwait);
        if (lost || received != sent) {
            std::cerr << size << " bytes: " << (lost ? lost.message() : "another message came back") << '\n';
            co_return EXIT_FAILURE;
        }
        std::cout << size << " bytes came back\n";
    }
    co_return EXIT_SUCCESS;
}

options::variables_map parse(int argc, char** argv) {
    options::options_description description(
        "curvegate-echo: echoes messages, or checks one that does. Options");
    const auto text = [] { return options::value<std::string>(); };
    description.add_options()("listen", text(), "HOST:PORT to serve")(
        "connect", text(), "HOST:PORT to check")("peer", text(), "the server's name in known_hosts")(
        "key", text()->required(), "secret key file")("known-hosts", text()->required(), "file of peers")(
        "sizes", text()->default_value("0,1,1000,65503"), "message sizes to send")(
        "wire", text()->default_value("curve_tun"), "what is spoken: curve_tun or curvecp")("help",
                                                                                            "print this");
    options::variables_map values;
    try {
        options::store(options::parse_command_line(argc, argv, description), values);
        if (values.contains("help")) {
            std::cout << description;
            std::exit(EXIT_SUCCESS);  // NOLINT(concurrency-mt-unsafe)
        }
        options::notify(values);
    } catch (const options::error& error) {
        give_up(kUsage, error.what());
    }
    const bool connect = values.contains("connect");
    if (values.contains("listen") == connect) give_up(kUsage, "give one of --listen and --connect");
    if (connect && !values.contains("peer")) give_up(kUsage, "--connect needs --peer");
    return values;
}

curvegate::Wire parse_wire(const std::string& word) {
    if (word == "curve_tun") return curvegate::Wire::curve_tun;
    if (word == "curvecp") return curvegate::Wire::curvecp;
    give_up(kUsage, "--wire: want curve_tun or curvecp");
}

}  // namespace

int main(int argc, char** argv) {
    const auto values = parse(argc, argv);
    const bool server = values.contains("listen");
    const auto wire = parse_wire(values["wire"].as<std::string>());
    asio::io_context context;
    curvegate::VaultFiles files;
    (server ? files.server_key : files.client_key) = values["key"].as<std::string>();
    files.known_hosts = values["known-hosts"].as<std::string>();
    const auto vault = curvegate::Vault::spawn(context, files);
    if (!vault) give_up(EXIT_FAILURE, vault.error());

    if (server) {
        const auto at = parse_host_port(values["listen"].as<std::string>());
        auto listener = curvegate::Listener::listen(*vault, {at.host, at.port, {}, wire, kService});
        if (!listener) give_up(EXIT_FAILURE, listener.error());
        std::cout << "listening on port " << listener->port() << '\n' << std::flush;
        asio::co_spawn(context, serve(context, std::move(*listener)), asio::detached);
        context.run();
        return EXIT_SUCCESS;
    }
    const auto at = parse_host_port(values["connect"].as<std::string>());
    const curvegate::ConnectOptions to{at.host,   at.port, values["peer"].as<std::string>(),
                                       kPatience, wire,    kService};
    int status = EXIT_FAILURE;
    asio::co_spawn(context, check(*vault, to, parse_sizes(values["sizes"].as<std::string>())),
                   [&](const std::exception_ptr& thrown, int result) {
                       if (thrown) std::rethrow_exception(thrown);
                       status = result;
                       context.stop();
                   });
    context.run();
    return status;
}
