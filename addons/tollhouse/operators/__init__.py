"""An operator's own mitmproxy addons on the road. Nothing in here is loaded into a call's way where none is configured.

loading    an addon from its file, and what is wrong with it
hooks_run  the addons of a gateway: their life, and how their hooks are called
flows      a call as mitmproxy's `HTTPFlow`, and what was changed in it
altered    an answer as the addons have left it
messages   the messages of a session as the addons have left them
on_road    the gate behind identity, and what `Journey` asks for each answer

mitmproxy is imported here for its public types (flows, options, hooks), and not its proxy core.
"""
