#pragma once

#include "base/time.hpp"
#include "daemon/control_access.hpp"
#include "daemon/front/control_request.hpp"
#include "daemon/front/local_client.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// The control socket (docs/CONTROL.md): one line in, lines out. Only those may speak whom the kernel says to
/// be root, our own uid, or a member of control-group or status-group.
namespace curvegate::daemon::front {

/// The answer to one command. Lines go out as they come; nothing after end(). If the client goes away, they
/// go nowhere.
class ControlReply {
  public:
    virtual ~ControlReply() = default;
    virtual void out(std::string_view line) = 0;
    /// The same of a long line, which others may get too. It has no line's end in it.
    virtual void page(const LocalClient::Piece& line) = 0;
    /// As out(), without end: a client that lets more than 4 MiB wait is let go.
    virtual void event(std::string_view line) = 0;
    virtual void err(std::string_view line) = 0;
    /// The last word: the exit status of the command.
    virtual void end(int status) = 0;
    /// Does the client still listen?
    [[nodiscard]] virtual bool alive() const = 0;
    /// Who asks, as the kernel says.
    [[nodiscard]] virtual unsigned uid() const = 0;
};

class ControlServer {
  public:
    using Words = ControlWords;
    /// `right` is never `none`.
    using Handler = std::function<void(Right right, const Words& words, std::shared_ptr<ControlReply> reply)>;

    static constexpr std::size_t kLongestRequest = 1'024;
    static constexpr std::size_t kMostClients = 64;  ///< of those who may command; as many who may look

    /// `listening` is a unix stream socket. `handler` gets the words after the greeting and version.
    ControlServer(asio::io_context& context, os::UniqueFd listening, const ControlAccess& access,
                  Handler handler);
    ~ControlServer();

  private:
    class Client;

    void accept();
    void pause();
    asio::local::stream_protocol::acceptor acceptor_;
    io::Timer timer_;
    ControlAccess access_;
    Handler handler_;
    LocalClients clients_{kMostClients};
    LocalClients readers_{kMostClients};
};

}  // namespace curvegate::daemon::front
