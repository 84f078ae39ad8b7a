// What a program does with openai-node: `node openai_client.mjs KEY URL …` prints a line for each URL.
import { createRequire } from 'node:module'

const require = createRequire(process.env.OPENAI_NODE + '/package.json')
const { OpenAI } = require('openai')

async function use(url, key) {
  const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 })
  const embed = async (input, more = {}) => {
    const answer = await client.embeddings.create({ model: 'text-embedding-3-small', input, ...more })
    return answer.data.map((one) => one.embedding)
  }
  const error = async (call) => {
    try {
      await call()
    } catch (found) {
      return [found.constructor.name, found.status, found.error]
    }
    return 'no error'
  }
  const chat = []
  const stream = await client.chat.completions.create({
    model: 'm',
    messages: [{ role: 'user', content: 'hi' }],
    stream: true,
  })
  for await (const chunk of stream) chat.push(chunk.choices[0].delta.content)
  const models = []
  for await (const model of client.models.list()) models.push(model.id)
  const wrong = new OpenAI({ baseURL: url, apiKey: 'sk-wrong', maxRetries: 0 })
  return {
    'a text': await embed('hello wörld'),
    texts: await embed(['a', 'b', 'a']),
    'token ids': await embed([1, 2, 3]),
    'lists of token ids': await embed([[1, 2, 3], [4]]),
    'all options': await embed('x', { model: 'text-embedding-3-large', dimensions: 4, user: 'u1' }),
    floats: await embed('x', { encoding_format: 'float' }),
    base64: await embed('x', { encoding_format: 'base64' }),
    many: await embed(Array.from({ length: 500 }, (_, n) => `t${n}`)),
    models,
    chat,
    'an empty text': await error(() => embed('')),
    'an unknown model': await error(() => embed('x', { model: 'nonexistent' })),
    'a wrong key': await error(() => wrong.embeddings.create({ model: 'm', input: 'x' })),
    'at once': await Promise.all(Array.from({ length: 20 }, (_, n) => embed(`at once ${n}`))),
  }
}

const [key, ...urls] = process.argv.slice(2)
for (const url of urls) console.log(JSON.stringify(await use(url, key)))
