#pragma once

#include "daemon/channel.hpp"
#include "daemon/front/audit_log.hpp"
#include "daemon/front/control.hpp"
#include "daemon/front/shared_page.hpp"
#include "registry/registry.hpp"
#include "status/snapshot.hpp"

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace curvegate::daemon::front {

/// The verbs of the control socket (docs/CONTROL.md).
class Commands {
  public:
    /// What they need of the front. Handlers are called on its thread.
    class Host {
      public:
        virtual ~Host() = default;
        virtual void take_snapshot(std::function<void(const status::Snapshot&)> done) = 0;
        [[nodiscard]] virtual const registry::Registry& registry() const = 0;
        /// Ends their sessions on every worker and lets them in no more; tells how many there were.
        virtual void revoke(const std::vector<crypto::PublicKey>& keys,
                            std::function<void(std::size_t ended)> done) = 0;
        [[nodiscard]] virtual AuditLog& audit() = 0;
        virtual void tell_parent(const ToParent& message) = 0;
        /// Calls `work` on the front's thread, from any.
        virtual void post(std::function<void()> work) = 0;
    };

    explicit Commands(Host& host);
    ~Commands();
    Commands(const Commands&) = delete;
    Commands& operator=(const Commands&) = delete;

    /// What `right` does not cover is refused with status 77.
    void handle(Right right, const ControlServer::Words& words, const std::shared_ptr<ControlReply>& reply);
    // What the parent and the workers answer to a request.
    void told(std::uint32_t id, const std::string& line);
    void done(std::uint32_t id, int status);
    void applied(std::uint32_t id, std::uint32_t generation, std::size_t ended);
    /// Has it written down, with who asked for it: that command, or a signal (0).
    void decided(std::uint32_t id, audit::Entry entry);

  private:
    using Reply = std::shared_ptr<ControlReply>;
    using Words = ControlServer::Words;

    void status(const Words& words, const Reply& reply);
    void reload(const Words& words, const Reply& reply);
    void revoke(const Words& words, const Reply& reply);
    void drain(const Words& words, const Reply& reply);
    void events(const Words& words, const Reply& reply);
    [[nodiscard]] std::uint32_t expect(const Reply& reply);
    void on_event(const std::string& line);

    Host& host_;
    SharedPage json_;                                   // the status
    std::unordered_map<std::uint32_t, Reply> waiting_;  // for the parent
    std::uint32_t next_id_ = 1;
    std::vector<Reply> listeners_;          // to events
    std::optional<status::Snapshot> last_;  // for rates
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace curvegate::daemon::front
