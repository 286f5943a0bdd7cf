// Publishes an event, reads the webhook that it becomes, and reads why others are
// refused. Prints what it read as one line of JSON.
//
// Its arguments are the address of the server, the ID of the event and how many
// others to publish.
import { create, fromJson, fromJsonString } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import {
  BadRequestSchema,
  ErrorInfoSchema,
} from "../../../gen/typescript/google/rpc/error_details_pb.js";
import { ErrorReason } from "../../../gen/typescript/signalpost/v1/errors_pb.js";
import { type Event, EventSchema } from "../../../gen/typescript/signalpost/v1/event_pb.js";
import {
  EventService,
  PublishResult_Outcome,
} from "../../../gen/typescript/signalpost/v1/event_service_pb.js";
import { type AccountConnected, Actor_Kind } from "../../../gen/typescript/signalpost/v1/payloads_pb.js";
import { WebhookBodySchema } from "../../../gen/typescript/signalpost/v1/webhook_pb.js";

const lenient = { ignoreUnknownFields: true };

// Gets the typed payload out of the body of a webhook, as a receiver does.
function readWebhook(text: string): AccountConnected {
  const body = fromJsonString(WebhookBodySchema, text, lenient);
  const member = body.eventType.replace(".", "_");
  const { payload } = fromJson(EventSchema, { [member]: body.payload ?? {} }, lenient);
  if (payload.case !== "accountConnected") {
    throw new Error(`not the payload that was sent: ${payload.case}`);
  }
  return payload.value;
}

async function refusal(events: Client<typeof EventService>, others: number) {
  const refused = create(EventSchema, {
    resource: {},
    payload: { case: "accountConnected", value: {} },
  });
  try {
    await events.publish({ events: Array<Event>(others).fill(refused) });
  } catch (error) {
    const failure = ConnectError.from(error);
    const [info] = failure.findDetails(ErrorInfoSchema);
    const [request] = failure.findDetails(BadRequestSchema);
    return {
      code: Code[failure.code],
      domain: info?.domain,
      reason: ErrorReason[ErrorReason[info?.reason as keyof typeof ErrorReason]],
      violations: request?.fieldViolations.map(({ field, reason, description }) => {
        return { field, reason, description };
      }),
    };
  }
  throw new Error("not refused");
}

const [address, eventId, others] = process.argv.slice(2);
const transport = createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 30_000 });
const events = createClient(EventService, transport);
const connected = create(EventSchema, {
  eventId,
  resource: { id: "acc_42" },
  payload: {
    case: "accountConnected",
    value: {
      integration: "gmail",
      scopes: ["mail.read"],
      actor: { kind: Actor_Kind.USER, id: "ada" },
    },
  },
});
const [checked] = (await events.publish({ events: [connected], validateOnly: true })).results;
const [published] = (await events.publish({ events: [connected] })).results;
console.log(
  JSON.stringify({
    outcome: PublishResult_Outcome[published!.outcome],
    integration: readWebhook(checked!.webhookBody).integration,
    ...(await refusal(events, Number(others))),
  }),
);
